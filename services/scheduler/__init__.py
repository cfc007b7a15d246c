"""Forms opinions of bots, from how their attempts end, and says which bot is best at what.

Owns `evt.performance.*` and the bucket `routing`, which the orchestrator chooses by. Hears what becomes of
tasks and which bots there are. Nothing waits for it: while it is away, its last opinions go on being used.
"""
