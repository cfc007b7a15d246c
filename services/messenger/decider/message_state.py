"""What a message is at any moment, and how facts change it."""

from datetime import datetime
from typing import assert_never

import msgspec

from services.messenger.facts import MessageEvent
from shared.contracts.messenger.facts import (
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageReplayed,
    MessageReturned,
    MessageSent,
)
from shared.contracts.words import MessageId, Party, Priority


class Order(msgspec.Struct, frozen=True):
    """What was asked for, but for the words themselves: these stand in the log."""

    message_id: MessageId
    sender: Party
    recipient: Party
    priority: Priority
    body_hash: str
    ttl_s: float
    deliveries_max: int


class Unknown(msgspec.Struct, frozen=True):
    """Nobody has sent this message yet."""


class Pending(msgspec.Struct, frozen=True):
    """It waits for its recipient, or for `retry_at`, or is on its way as `delivery`.

    `counted` deliveries were in vain, `deliveries_max` may be.
    """

    order: Order
    expires_at: datetime
    delivery: int
    counted: int
    deliveries_max: int
    retry_at: datetime | None = None


class Delivered(msgspec.Struct, frozen=True):
    """The recipient has it. `kept`: its runtime will see to it; else it waits for somebody to read it."""

    order: Order
    expires_at: datetime
    delivery: int
    counted: int
    deliveries_max: int
    kept: bool


class Read(msgspec.Struct, frozen=True):
    """It was read, or done."""

    order: Order


class Failed(msgspec.Struct, frozen=True):
    """It was delivered in vain as often as it may be; it lies in the dead letters."""

    order: Order
    delivery: int
    counted: int


class Expired(msgspec.Struct, frozen=True):
    """Its time was over before it was read."""

    order: Order
    delivery: int


Message = Unknown | Pending | Delivered | Read | Failed | Expired


def evolve(message: Message, fact: MessageEvent, _sequence: int, at: datetime) -> Message:
    """The message after one of its facts. A fact that does not fit changes nothing."""
    if isinstance(fact, MessageSent):
        return _sent(fact, at)
    if isinstance(message, Unknown | Read):
        return message
    match fact:
        case MessageDelivered():
            return _delivered(message, fact)
        case MessageReturned():
            return _returned(message, fact)
        case MessageRead():
            return Read(message.order)
        case MessageFailed():
            return _failed(message)
        case MessageExpired():
            delivery = message.delivery
            return Expired(message.order, delivery)
        case MessageReplayed():
            return _replayed(message, fact)
        case _:
            assert_never(fact)


def _sent(fact: MessageSent, at: datetime) -> Pending:
    order = Order(
        message_id=fact.message_id,
        sender=fact.sender,
        recipient=fact.recipient,
        priority=fact.priority,
        body_hash=fact.body_hash,
        ttl_s=(fact.expires_at - at).total_seconds(),
        deliveries_max=fact.deliveries_max,
    )
    return Pending(order, fact.expires_at, 1, 0, fact.deliveries_max)


def _delivered(message: Pending | Delivered | Failed | Expired, fact: MessageDelivered) -> Message:
    if isinstance(message, Failed | Expired):
        return message
    return Delivered(
        order=message.order,
        expires_at=message.expires_at,
        delivery=fact.delivery,
        counted=message.counted,
        deliveries_max=message.deliveries_max,
        kept=fact.kept,
    )


def _returned(message: Pending | Delivered | Failed | Expired, fact: MessageReturned) -> Message:
    if isinstance(message, Failed | Expired):
        return message
    return Pending(
        order=message.order,
        expires_at=message.expires_at,
        delivery=fact.delivery,
        counted=message.counted + fact.counts,
        deliveries_max=message.deliveries_max,
        retry_at=fact.retry_at,
    )


def _failed(message: Pending | Delivered | Failed | Expired) -> Message:
    if isinstance(message, Failed | Expired):
        return message
    return Failed(message.order, message.delivery, message.counted + 1)


def _replayed(message: Pending | Delivered | Failed | Expired, fact: MessageReplayed) -> Message:
    if not isinstance(message, Failed):
        return message
    return Pending(
        order=message.order,
        expires_at=fact.expires_at,
        delivery=fact.delivery,
        counted=message.counted,
        deliveries_max=fact.deliveries_max,
    )
