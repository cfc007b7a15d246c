"""Words of the messenger, made quickly."""

from typing import Any

from shared.contracts.messenger.commands import PostMessage, SendBroadcast, SendMessage
from shared.contracts.words import BotId, MessageId, Party

ANN = Party("@ann")
ALPHA = BotId("alpha")
BETA = BotId("beta")


def send(message_id: str = "m1", **changed: Any) -> SendMessage:
    """A person's note to beta."""
    fields: dict[str, Any] = {
        "message_id": MessageId(message_id),
        "sender": ANN,
        "recipient": Party(BETA),
        "content": "hello",
        "body_hash": "hash",
    }
    return SendMessage(**{**fields, **changed})


def post(message_id: str = "m1", **changed: Any) -> PostMessage:
    """Alpha's note to beta."""
    fields: dict[str, Any] = {
        "message_id": MessageId(message_id),
        "bot_id": ALPHA,
        "recipient": Party(BETA),
        "content": "hello",
    }
    return PostMessage(**{**fields, **changed})


def broadcast(broadcast_id: str = "b1", **changed: Any) -> SendBroadcast:
    """A person's note to all bots."""
    fields: dict[str, Any] = {
        "broadcast_id": broadcast_id,
        "sender": ANN,
        "content": "freeze at noon",
        "body_hash": "hash",
    }
    return SendBroadcast(**{**fields, **changed})
