"""What the messenger tells the others, can be asked to do, and says to bots.

The names and fields here are stored and sent: add fields with a default, never rename one.
"""
