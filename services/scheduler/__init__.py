"""Forms opinions of bots, from how their attempts end; says which bot is best at what; and keeps schedules.

Owns `evt.performance.*`, `evt.schedule.*` and the bucket `routing`, which the orchestrator chooses by. Hears
what becomes of tasks and which bots there are. Nothing waits for it: while it is away, its last opinions
go on being used, and what was due meanwhile is caught up as each schedule says.
"""
