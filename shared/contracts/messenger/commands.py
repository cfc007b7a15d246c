"""What the messenger can be asked to do."""

from typing import ClassVar, Final

from shared.contracts.messenger.facts import MessageError
from shared.contracts.words import (
    DELIVERIES_DEFAULT,
    MESSAGE_TTL_DEFAULT,
    BotId,
    MessageId,
    MessageKind,
    Party,
    Priority,
)
from shared.kernel.messages import Command

_PEOPLE: Final = frozenset({"gateway"})
_PEOPLE_AND_SERVICES: Final = frozenset({"gateway", "service"})
_BOTS: Final = frozenset({"bot"})


class MessageCommand(Command, frozen=True, kw_only=True):
    """About one message."""

    service: ClassVar[str] = "messenger"
    aggregate: ClassVar[str] = "message"
    key_field: ClassVar[str] = "message_id"


class SendMessage(MessageCommand, frozen=True, kw_only=True):
    """Please deliver this.

    Refused: `sender_unknown` (of a bot), `recipient_unknown` (unless `hold`), `inbox_full`, `message_exists`.
    """

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES
    opens: ClassVar[bool] = True

    message_id: MessageId
    sender: Party
    recipient: Party
    content: str
    body_hash: str
    priority: Priority = Priority.P2
    kind: MessageKind = MessageKind.NOTE
    ttl_s: float = MESSAGE_TTL_DEFAULT.total_seconds()
    deliveries_max: int = DELIVERIES_DEFAULT
    in_reply_to: MessageId | None = None
    broadcast: str | None = None
    hold: bool = False


class PostMessage(MessageCommand, frozen=True, kw_only=True):
    """The same from a bot, which is the sender."""

    senders: ClassVar[frozenset[str]] = _BOTS
    opens: ClassVar[bool] = True

    message_id: MessageId
    bot_id: BotId
    recipient: Party
    content: str
    priority: Priority = Priority.P2
    kind: MessageKind = MessageKind.NOTE
    ttl_s: float = MESSAGE_TTL_DEFAULT.total_seconds()
    deliveries_max: int = DELIVERIES_DEFAULT
    in_reply_to: MessageId | None = None
    hold: bool = False
    error: MessageError | None = None


class TakeMessage(MessageCommand, frozen=True, kw_only=True):
    """The recipient's runtime has it. `kept`: it will see to it, and say ReadMessage or ReturnMessage."""

    senders: ClassVar[frozenset[str]] = _BOTS

    message_id: MessageId
    bot_id: BotId
    delivery: int
    kept: bool = False


class ReadMessage(MessageCommand, frozen=True, kw_only=True):
    """The recipient has done with it; this says that it was delivered, too."""

    senders: ClassVar[frozenset[str]] = _BOTS

    message_id: MessageId
    bot_id: BotId
    delivery: int


class ReturnMessage(MessageCommand, frozen=True, kw_only=True):
    """The recipient could not: try again later, or, where another try would end alike, never."""

    senders: ClassVar[frozenset[str]] = _BOTS

    message_id: MessageId
    bot_id: BotId
    delivery: int
    code: str
    reason: str
    retryable: bool = True


class LetExpire(MessageCommand, frozen=True, kw_only=True):
    """The recipient had kept it, but its time was over before it was shown."""

    senders: ClassVar[frozenset[str]] = _BOTS

    message_id: MessageId
    bot_id: BotId
    delivery: int


class MarkRead(MessageCommand, frozen=True, kw_only=True):
    """A person has read it, for itself or for a bot. Refused: `not_delivered`, `message_ended`."""

    senders: ClassVar[frozenset[str]] = _PEOPLE

    message_id: MessageId
    reader: Party


class ReplayMessage(MessageCommand, frozen=True, kw_only=True):
    """Put a failed message back: it stands in the dead letters, whose replay says this.

    `recipient` and `content` are for whoever reads the letter. Refused: `not_failed`.
    """

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    message_id: MessageId
    sender: Party
    recipient: Party
    content: str


class SendBroadcast(Command, frozen=True, kw_only=True):
    """One message to each bot of a pool, of a task type, or to all but the sender.

    Refused: `sender_unknown`, `no_recipients`, `too_many_recipients`, `broadcast_exists`.
    """

    service: ClassVar[str] = "messenger"
    aggregate: ClassVar[str] = "broadcast"
    key_field: ClassVar[str] = "broadcast_id"
    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES
    opens: ClassVar[bool] = True

    broadcast_id: str
    sender: Party
    content: str
    body_hash: str
    priority: Priority = Priority.P2
    kind: MessageKind = MessageKind.NOTE
    ttl_s: float = MESSAGE_TTL_DEFAULT.total_seconds()
    pool: str | None = None
    type: str | None = None


MessageRequest = (
    SendMessage
    | PostMessage
    | TakeMessage
    | ReadMessage
    | ReturnMessage
    | LetExpire
    | MarkRead
    | ReplayMessage
)
BroadcastRequest = SendBroadcast
