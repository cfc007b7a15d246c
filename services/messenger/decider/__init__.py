"""The rules: of one message, and of one broadcast."""

from services.messenger.decider.broadcast import BROADCAST
from services.messenger.decider.message import MESSAGE

__all__ = ["BROADCAST", "MESSAGE"]
