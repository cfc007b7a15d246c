"""What only the messenger asks of itself: nobody may send these. Too late, each means nothing."""

from typing import ClassVar, Final

import msgspec

from shared.contracts.messenger.commands import (
    BroadcastRequest,
    MessageCommand,
    MessageRequest,
    PostMessage,
    ReturnMessage,
    SendBroadcast,
    SendMessage,
)
from shared.contracts.words import BotId, MessageId
from shared.kernel.messages import Command

_NOBODY: Final[frozenset[str]] = frozenset()


class Refusal(msgspec.Struct, frozen=True):
    """Why a message is not accepted: a code for programs, a detail for people."""

    code: str
    detail: str


class AdmitMessage(MessageCommand, frozen=True, kw_only=True):
    """A message that somebody sends, and whether it may come in."""

    senders: ClassVar[frozenset[str]] = _NOBODY
    opens: ClassVar[bool] = True

    message_id: MessageId
    wish: SendMessage | PostMessage
    held: bool = False
    refusal: Refusal | None = None


class TakeBack(MessageCommand, frozen=True, kw_only=True):
    """A bot returns a message; the waits before another delivery are those in force now."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    message_id: MessageId
    wish: ReturnMessage
    backoff_first_s: float
    backoff_max_s: float


class LoseDelivery(MessageCommand, frozen=True, kw_only=True):
    """The bot had taken it, to see to it, and its process no longer has it.

    `counts`: it was probably being handled when that process ended.
    """

    senders: ClassVar[frozenset[str]] = _NOBODY

    message_id: MessageId
    delivery: int
    counts: bool


class ExpireMessage(MessageCommand, frozen=True, kw_only=True):
    """Its time is over. `absent`: the bot that had taken it is not there to see to it."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    message_id: MessageId
    absent: bool = False


class OpenBroadcast(Command, frozen=True, kw_only=True):
    """A broadcast, the bots that it is for, and whether it may come in."""

    service: ClassVar[str] = "messenger"
    aggregate: ClassVar[str] = "broadcast"
    key_field: ClassVar[str] = "broadcast_id"
    senders: ClassVar[frozenset[str]] = _NOBODY
    opens: ClassVar[bool] = True

    broadcast_id: str
    wish: SendBroadcast
    recipients: tuple[BotId, ...]
    selection: str
    refusal: Refusal | None = None


class NoteSpread(Command, frozen=True, kw_only=True):
    """Each of its messages was accepted or refused."""

    service: ClassVar[str] = "messenger"
    aggregate: ClassVar[str] = "broadcast"
    key_field: ClassVar[str] = "broadcast_id"
    senders: ClassVar[frozenset[str]] = _NOBODY

    broadcast_id: str
    refused: dict[BotId, str]


OwnMessageCommand = AdmitMessage | TakeBack | LoseDelivery | ExpireMessage
MessageWish = MessageRequest | OwnMessageCommand
BroadcastWish = BroadcastRequest | OpenBroadcast | NoteSpread
