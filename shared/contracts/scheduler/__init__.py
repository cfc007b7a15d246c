"""What the scheduler tells the others: opinions about bots, and schedules.

The names and fields here are stored and sent: add fields with a default, never rename one.
"""
