"""The life of a message: pending, delivered, read; or failed, or expired. A failed one may be put back.

A delivery that is older than the newest is a late word of a process that was thought lost. That it has read
the message counts; all else that it says changes nothing.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

from services.messenger.commands import (
    AdmitMessage,
    ExpireMessage,
    LoseDelivery,
    MessageWish,
    Refusal,
    TakeBack,
)
from services.messenger.decider.checks import check_message, check_return
from services.messenger.decider.message_state import (
    Delivered,
    Expired,
    Failed,
    Message,
    Pending,
    Read,
    Unknown,
    evolve,
)
from services.messenger.facts import MessageEvent
from shared.contracts.messenger.commands import (
    LetExpire,
    MarkRead,
    PostMessage,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    SendMessage,
    TakeMessage,
)
from shared.contracts.messenger.facts import (
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageReplayed,
    MessageReturned,
    MessageSent,
)
from shared.contracts.words import BACKOFF_FIRST, BACKOFF_MAX, MessageId, Party, is_person
from shared.kernel.backoff import backoff, spread
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

CLOCKS_APART_MAX: Final = timedelta(seconds=5)
"""So much a bot's clock may be ahead of ours when it says that a message's time was over."""

FromBot = TakeMessage | ReadMessage | ReturnMessage | LetExpire


def decide(message: Message, command: MessageWish, at: datetime) -> list[MessageEvent]:
    """What follows from a command; `[]`: it is so already, or came too late to mean anything."""
    match command:
        case AdmitMessage():
            return _send(message, command.wish, at, held=command.held, refusal=command.refusal)
        case SendMessage() | PostMessage():
            return _send(message, command, at, held=False, refusal=None)
        case TakeMessage():
            return _take(_of(message, command), command)
        case ReadMessage():
            return _read(_of(message, command), command)
        case TakeBack():
            waits = timedelta(seconds=command.backoff_first_s), timedelta(seconds=command.backoff_max_s)
            return _return(_of(message, command.wish), command.wish, at, waits)
        case ReturnMessage():
            return _return(_of(message, command), command, at, (BACKOFF_FIRST, BACKOFF_MAX))
        case LetExpire():
            return _let_expire(_of(message, command), command, at)
        case MarkRead():
            return _mark_read(message, command)
        case ReplayMessage():
            return _replay(message, command, at)
        case LoseDelivery():
            return _lose(message, command, at)
        case ExpireMessage():
            return _expire(message, command, at)
        case _:
            assert_never(command)


def _send(
    message: Message, wish: SendMessage | PostMessage, at: datetime, *, held: bool, refusal: Refusal | None
) -> list[MessageEvent]:
    by_bot = isinstance(wish, PostMessage)
    sender = Party(wish.bot_id) if isinstance(wish, PostMessage) else wish.sender
    body_hash = "" if isinstance(wish, PostMessage) else wish.body_hash
    if not isinstance(message, Unknown):
        # A bot's ids are its own: what it says again under one of them is the same.
        if message.order.sender == sender and message.order.body_hash == body_hash:
            return []
        raise Rejected("message_exists", f"{wish.message_id} was sent already, with another body")
    check_message(wish)
    if refusal is not None:
        raise Rejected(refusal.code, refusal.detail)
    sent = MessageSent(
        message_id=wish.message_id,
        sender=sender,
        recipient=wish.recipient,
        content=wish.content,
        priority=wish.priority,
        kind=wish.kind,
        body_hash=body_hash,
        expires_at=at + timedelta(seconds=wish.ttl_s),
        deliveries_max=wish.deliveries_max,
        in_reply_to=wish.in_reply_to,
        broadcast=None if by_bot or not isinstance(wish, SendMessage) else wish.broadcast,
        held=held,
        error=wish.error if isinstance(wish, PostMessage) else None,
    )
    if is_person(wish.recipient):
        return [sent, MessageDelivered(message_id=wish.message_id, delivery=1)]
    return [sent]


def _of(message: Message, command: FromBot) -> Pending | Delivered | Read | Failed | Expired:
    """The message that a bot speaks of: only its recipient may, and only of a delivery that there was."""
    if isinstance(message, Unknown):
        raise _not_found(command.message_id)
    if message.order.recipient != Party(command.bot_id):
        raise Rejected("not_recipient", f"{command.message_id} is not for {command.bot_id}")
    newest = None if isinstance(message, Read) else message.delivery
    if command.delivery < 1 or (newest is not None and command.delivery > newest):
        raise Rejected("unknown_delivery", f"{command.message_id} was never delivered as {command.delivery}")
    return message


def _take(message: Message, command: TakeMessage) -> list[MessageEvent]:
    match message:
        case Pending(delivery=command.delivery):
            return [_delivered(command.message_id, command.delivery, kept=command.kept)]
        case Delivered(delivery=command.delivery, kept=True) if not command.kept:
            return [_delivered(command.message_id, command.delivery)]
        case Unknown() | Pending() | Delivered() | Read() | Failed() | Expired():
            return []
        case _:
            assert_never(message)


def _read(message: Message, command: ReadMessage) -> list[MessageEvent]:
    read = MessageRead(message_id=command.message_id, reader=Party(command.bot_id))
    match message:
        case Pending():
            return [_delivered(command.message_id, command.delivery), read]
        case Delivered() | Failed() | Expired():
            return [read]
        case Unknown() | Read():
            return []
        case _:
            assert_never(message)


def _return(
    message: Message, command: ReturnMessage, at: datetime, waits: tuple[timedelta, timedelta]
) -> list[MessageEvent]:
    check_return(command)
    match message:
        case Pending(delivery=command.delivery):
            begun: list[MessageEvent] = [_delivered(command.message_id, command.delivery)]
        case Delivered(delivery=command.delivery):
            begun = []
        case Unknown() | Pending() | Delivered() | Read() | Failed() | Expired():
            return []
        case _:
            assert_never(message)
    counted = message.counted + 1
    if not command.retryable or counted >= message.deliveries_max:
        failed = MessageFailed(message_id=command.message_id, code=command.code, reason=command.reason)
        return [*begun, failed]
    first, longest = waits
    wait = backoff(first.total_seconds(), longest.total_seconds(), counted)
    returned = MessageReturned(
        message_id=command.message_id,
        delivery=command.delivery + 1,
        reason=f"{command.code}: {command.reason}",
        retry_at=at + spread(wait, command.message_id, str(command.delivery)),
        counts=True,
    )
    return [*begun, returned]


def _let_expire(message: Message, command: LetExpire, at: datetime) -> list[MessageEvent]:
    if not isinstance(message, Pending | Delivered) or message.delivery != command.delivery:
        return []
    if at + CLOCKS_APART_MAX < message.expires_at:
        raise Rejected("not_expired", f"{command.message_id} has time until {message.expires_at}")
    return [MessageExpired(message_id=command.message_id)]


def _mark_read(message: Message, command: MarkRead) -> list[MessageEvent]:
    match message:
        case Unknown():
            raise _not_found(command.message_id)
        case Pending():
            raise Rejected("not_delivered", f"{command.message_id} has not reached its recipient yet")
        case Failed() | Expired():
            raise Rejected(
                "message_ended", f"{command.message_id} failed or expired: there is nothing to read"
            )
        case Delivered():
            return [MessageRead(message_id=command.message_id, reader=command.reader)]
        case Read():
            return []
        case _:
            assert_never(message)


def _replay(message: Message, command: ReplayMessage, at: datetime) -> list[MessageEvent]:
    if isinstance(message, Unknown):
        raise _not_found(command.message_id)
    if not isinstance(message, Failed):
        raise Rejected("not_failed", f"{command.message_id} lies in no dead letter")
    return [
        MessageReplayed(
            message_id=command.message_id,
            delivery=message.delivery + 1,
            deliveries_max=message.counted + message.order.deliveries_max,
            expires_at=at + timedelta(seconds=message.order.ttl_s),
        )
    ]


def _lose(message: Message, command: LoseDelivery, at: datetime) -> list[MessageEvent]:
    if not isinstance(message, Delivered) or not message.kept or message.delivery != command.delivery:
        return []
    if command.counts and message.counted + 1 >= message.deliveries_max:
        reason = f"its recipient's process ended while it had it, {message.counted + 1} times"
        return [MessageFailed(message_id=command.message_id, code="process_ended", reason=reason)]
    return [
        MessageReturned(
            message_id=command.message_id,
            delivery=command.delivery + 1,
            reason="process_ended: its recipient's process no longer has it",
            retry_at=at,
            counts=command.counts,
        )
    ]


def _expire(message: Message, command: ExpireMessage, at: datetime) -> list[MessageEvent]:
    over = isinstance(message, Pending | Delivered) and message.expires_at <= at
    unread = isinstance(message, Pending) or (
        isinstance(message, Delivered) and message.kept and command.absent
    )
    return [MessageExpired(message_id=command.message_id)] if over and unread else []


def _delivered(message_id: MessageId, delivery: int, *, kept: bool = False) -> MessageDelivered:
    return MessageDelivered(message_id=message_id, delivery=delivery, kept=kept)


def _not_found(message_id: MessageId) -> Rejected:
    return Rejected("message_not_found", f"there is no message {message_id}")


MESSAGE: Final = Decider[Message, MessageWish, MessageEvent](initial=Unknown(), evolve=evolve, decide=decide)
