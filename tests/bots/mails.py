"""Mails for tests."""

from datetime import timedelta
from itertools import count
from typing import Any

from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import MessageId, MessageKind, Party, Priority
from shared.runtime.clock import now

_sequences = count(1)


def mail(sender: str = "beta", priority: Priority = Priority.P2, **more: Any) -> Mail:
    """A mail; what is not said is as it usually is."""
    sequence = next(_sequences)
    said: dict[str, Any] = {
        "session": "s",
        "index": 0,
        "message_id": MessageId(f"m-{sequence}"),
        "delivery": 1,
        "sequence": sequence,
        "content": "hello",
        "kind": MessageKind.NOTE,
        "sent_at": now(),
        "expires_at": now() + timedelta(hours=1),
        "chain": f"m-{sequence}",
        **more,
    }
    return Mail(sender=Party(sender), priority=priority, **said)
