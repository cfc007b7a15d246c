"""Decides which bot does which task, and which bots there are.

Owns `evt.task.*` and `evt.bot.*`. Hears the bots' heartbeats, the hosts' reports and the bots' requests for
files, and publishes assignments. A task that was accepted ends once, or waits in sight of a person; a bot
that is wanted runs.
"""
