"""Messages as people read them."""

from typing import Final

from cli import screen
from shared.contracts.messenger.queries import MessageDoc

COLUMNS: Final = ("id", "sent", "state", "priority", "from", "to", "text")
SPARE: Final = ("sent", "priority")
READY: Final = frozenset({"read", "failed", "expired"})


def row(message: MessageDoc) -> tuple[object, ...]:
    """A line of a list."""
    text = screen.first_line(message.content)
    if message.error is not None:
        text = f"no answer: {message.error.detail} ({message.error.code})"
    return (
        message.id,
        message.sent_at,
        message.state,
        message.priority,
        message.sender,
        message.recipient,
        text,
    )


def fields(message: MessageDoc) -> list[tuple[str, object]]:
    """A message, field by field; its text comes after."""
    error = None if message.error is None else f"{message.error.detail} ({message.error.code})"
    return [
        ("id", message.id),
        ("state", message.state),
        ("reason", message.reason),
        ("from", message.sender),
        ("to", message.recipient),
        ("priority", message.priority),
        ("kind", message.kind),
        ("sent", message.sent_at),
        ("delivered", message.delivered_at),
        ("read", message.read_at),
        ("again at", message.retry_at),
        ("expires", None if message.state in READY else message.expires_at),
        ("deliveries", f"{message.deliveries} of at most {message.deliveries_max}"),
        ("answers", message.in_reply_to),
        ("broadcast", message.broadcast),
        ("held", "nobody of that name was there when it was sent" if message.held else None),
        ("error", error),
        ("sequence", message.sequence),
        ("version", message.version),
    ]


def outcome(message: MessageDoc) -> str:
    """How it stands, in a line."""
    state = screen.coloured(message.state)
    if message.state == "pending" and message.held:
        until = screen.words(message.expires_at)
        return f"held for {message.recipient}, of whom nobody has heard yet, until {until}"
    reason = f": {message.reason}" if message.reason else ""
    return f"{state} to {message.recipient} ({message.priority}){reason}"
