"""The public facts of messages and broadcasts."""

from datetime import datetime

import msgspec

from shared.contracts.words import BotId, MessageId, MessageKind, Party, Priority
from shared.kernel.messages import Fact


class MessageError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a bot could not answer: a code for programs, a detail for people."""

    code: str
    detail: str


class MessageSent(Fact, frozen=True, kw_only=True):
    """A message was accepted; the sequence of this commit is its place in every list and order.

    `body_hash` guards the idempotency key. `held`: nobody of the recipient's name was there yet.
    `error`: the message is an answer that says that there is none.
    """

    message_id: MessageId
    sender: Party
    recipient: Party
    content: str
    priority: Priority
    kind: MessageKind
    body_hash: str
    expires_at: datetime
    deliveries_max: int
    in_reply_to: MessageId | None = None
    broadcast: str | None = None
    held: bool = False
    error: MessageError | None = None


class MessageDelivered(Fact, frozen=True, kw_only=True):
    """The recipient's runtime has it, and said so for good; for a person the log itself is the inbox.

    `kept`: the runtime will see to it and say when it was read; if its process ends first, it is returned.
    """

    message_id: MessageId
    delivery: int
    kept: bool = False


class MessageReturned(Fact, frozen=True, kw_only=True):
    """It is to be delivered again, from `retry_at` on, as `delivery`.

    `counts`: the last delivery was one of those that it may have; not so where it only was lost on its way.
    """

    message_id: MessageId
    delivery: int
    reason: str
    retry_at: datetime
    counts: bool


class MessageRead(Fact, frozen=True, kw_only=True):
    """The recipient has read it, or its runtime has done what it asks."""

    message_id: MessageId
    reader: Party


class MessageFailed(Fact, frozen=True, kw_only=True):
    """It was delivered as often as it may be, in vain; it lies in the dead letters."""

    message_id: MessageId
    code: str
    reason: str


class MessageExpired(Fact, frozen=True, kw_only=True):
    """Its time was over before it was read."""

    message_id: MessageId


class MessageReplayed(Fact, frozen=True, kw_only=True):
    """Somebody put it back from the dead letters: the same message, with new deliveries and a new time."""

    message_id: MessageId
    delivery: int
    deliveries_max: int
    expires_at: datetime


class BroadcastSent(Fact, frozen=True, kw_only=True):
    """One message each is to go to these bots. `selection` says how they were chosen, for people."""

    broadcast_id: str
    sender: Party
    content: str
    priority: Priority
    kind: MessageKind
    body_hash: str
    ttl_s: float
    selection: str
    recipients: tuple[BotId, ...]


class BroadcastSpread(Fact, frozen=True, kw_only=True):
    """Every one of its messages was accepted, or refused; `refused` names the bots of these and why."""

    broadcast_id: str
    refused: dict[BotId, str]


MessageFact = (
    MessageSent
    | MessageDelivered
    | MessageReturned
    | MessageRead
    | MessageFailed
    | MessageExpired
    | MessageReplayed
)
BroadcastFact = BroadcastSent | BroadcastSpread
