"""The public face: decides access keys, and mounts every service's router on one port, behind them.

Owns `key`. Hears nobody. Talks to the other services only over NATS, as their routers do.
"""
