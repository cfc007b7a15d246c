"""What the orchestrator tells the others, what it can be asked to do, and how it talks with bots and their hosts.

The names and fields here are stored and sent: add fields with a default, never rename one.
"""
