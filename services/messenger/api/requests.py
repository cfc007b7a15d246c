"""What callers send about messages: checked here once, field by field."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.messenger.api.parties import PartyName
from shared.contracts.messenger.commands import SendBroadcast, SendMessage
from shared.contracts.words import (
    DELIVERIES_DEFAULT,
    DELIVERIES_MAX,
    MESSAGE_CHARS_MAX,
    MESSAGE_TTL_DEFAULT,
    MESSAGE_TTL_MAX,
    MESSAGE_TTL_MIN,
    MessageId,
    MessageKind,
    Name,
    Party,
    Priority,
    TaskType,
)
from shared.kernel.wishes import wish_hash
from shared.runtime.problems import Refusal, Wrong

PAGE_MAX: Final = 200

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MESSAGE_CHARS_MAX)]
Ttl = Annotated[
    float,
    msgspec.Meta(
        ge=MESSAGE_TTL_MIN.total_seconds(), le=MESSAGE_TTL_MAX.total_seconds(), description="Seconds."
    ),
]
Cursor = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}(?!\n)$")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
MessageState = Literal["pending", "delivered", "read", "failed", "expired"]


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to be delivered. Without `from`, from the key's person. `hold`: until `to` exists."""

    sender: PartyName | None = msgspec.field(name="from", default=None)
    to: PartyName
    content: Text
    priority: Priority = Priority.P2
    kind: MessageKind = MessageKind.NOTE
    ttl_s: Ttl = MESSAGE_TTL_DEFAULT.total_seconds()
    deliveries_max: Annotated[int, msgspec.Meta(ge=1, le=DELIVERIES_MAX)] = DELIVERIES_DEFAULT
    in_reply_to: Name | None = None
    hold: bool = False

    def command(self, message_id: MessageId, sender: Party, *, hold: bool) -> SendMessage:
        """As the messenger's word. The same wish has the same hash, however it was written down."""
        held = self.hold or hold
        same = msgspec.structs.replace(self, sender=sender, hold=held)
        return SendMessage(
            message_id=message_id,
            sender=sender,
            recipient=Party(self.to),
            content=self.content,
            body_hash=wish_hash(same),
            priority=self.priority,
            kind=self.kind,
            ttl_s=self.ttl_s,
            deliveries_max=self.deliveries_max,
            in_reply_to=None if self.in_reply_to is None else MessageId(self.in_reply_to),
            hold=held,
        )


class NewBroadcast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same to many: to a `pool`, to those that do a `type` of task, or to `all`."""

    sender: PartyName | None = msgspec.field(name="from", default=None)
    content: Text
    pool: Name | None = None
    type: TaskType | None = None
    all: bool = False
    priority: Priority = Priority.P2
    kind: MessageKind = MessageKind.NOTE
    ttl_s: Ttl = MESSAGE_TTL_DEFAULT.total_seconds()

    def check(self) -> None:
        """What the schema cannot say."""
        chosen = (self.pool is not None) + (self.type is not None) + self.all
        if chosen != 1:
            detail = "Say to whom: one of `pool`, `type` and `all`."
            wrong = tuple(Wrong(detail=detail, pointer=pointer) for pointer in ("/pool", "/type", "/all"))
            raise Refusal(422, "recipients_unclear", detail, errors=wrong)

    def command(self, broadcast_id: str, sender: Party) -> SendBroadcast:
        """As the messenger's word."""
        same = msgspec.structs.replace(self, sender=sender)
        return SendBroadcast(
            broadcast_id=broadcast_id,
            sender=sender,
            content=self.content,
            body_hash=wish_hash(same),
            priority=self.priority,
            kind=self.kind,
            ttl_s=self.ttl_s,
            pool=self.pool,
            type=self.type,
        )


class HoldAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether to keep the message until its recipient exists, as the body's `hold`."""

    hold: bool = False


class MessagesAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages. `party`: sent by it or to it."""

    party: PartyName | UnsetType = UNSET
    sender: PartyName | UnsetType = UNSET
    recipient: PartyName | UnsetType = UNSET
    state: MessageState | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    broadcast: Name | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


class InboxAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of an inbox. `unread`: pending and delivered ones only."""

    priority: Priority | UnsetType = UNSET
    state: MessageState | UnsetType = UNSET
    unread: bool = False
    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


class PageAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a list."""

    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50
