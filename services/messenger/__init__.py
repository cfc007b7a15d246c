"""Decides what becomes of messages between bots and people, and of broadcasts.

Owns `evt.message.*` and `evt.broadcast.*`. Hears which bots and keys there are, and the bots' Hello, and
pushes mail to them within a window. A message that was accepted is read, or fails or expires in sight.
"""
