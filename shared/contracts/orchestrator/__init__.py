"""What the orchestrator tells the others, can be asked to do, and says to bots and their hosts.

The names and fields here are stored and sent: add fields with a default, never rename one.
"""
