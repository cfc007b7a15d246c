"""The worker side: what runs in every bot's process, the engines that work, and the host that launches bots.

A bot needs only the broker. Everything it says stands in docs/bot-protocol.md, so that a bot can be written
in any language; `bots/sdk.py` is the short way in Python.
"""
