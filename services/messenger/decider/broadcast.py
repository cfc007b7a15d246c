"""The life of a broadcast: its messages are on their way out, then all of them are accepted or refused."""

from datetime import datetime
from typing import Final, assert_never

import msgspec

from services.messenger.commands import BroadcastWish, NoteSpread, OpenBroadcast
from services.messenger.decider.checks import check_broadcast
from services.messenger.facts import BroadcastEvent
from shared.contracts.messenger.commands import SendBroadcast
from shared.contracts.messenger.facts import BroadcastSent, BroadcastSpread
from shared.contracts.words import BROADCAST_MAX
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected


class NoBroadcast(msgspec.Struct, frozen=True):
    """Nobody has sent it yet."""


class Spreading(msgspec.Struct, frozen=True):
    """Not all of its messages exist yet."""

    body_hash: str


class Spread(msgspec.Struct, frozen=True):
    """Nothing more is to be done about it."""

    body_hash: str


Broadcast = NoBroadcast | Spreading | Spread


def evolve(broadcast: Broadcast, fact: BroadcastEvent, _sequence: int, _at: datetime) -> Broadcast:
    """The broadcast after one of its facts."""
    match fact:
        case BroadcastSent():
            return Spreading(fact.body_hash)
        case BroadcastSpread():
            return broadcast if isinstance(broadcast, NoBroadcast) else Spread(broadcast.body_hash)
        case _:
            assert_never(fact)


def decide(broadcast: Broadcast, command: BroadcastWish, _at: datetime) -> list[BroadcastEvent]:
    """What follows from a command."""
    match command:
        case OpenBroadcast():
            return _send(broadcast, command.wish, command)
        case SendBroadcast():
            return _send(broadcast, command, None)
        case NoteSpread():
            if not isinstance(broadcast, Spreading):
                return []
            return [BroadcastSpread(broadcast_id=command.broadcast_id, refused=command.refused)]
        case _:
            assert_never(command)


def _send(broadcast: Broadcast, wish: SendBroadcast, opened: OpenBroadcast | None) -> list[BroadcastEvent]:
    if not isinstance(broadcast, NoBroadcast):
        if broadcast.body_hash == wish.body_hash:
            return []
        raise Rejected("broadcast_exists", f"{wish.broadcast_id} was sent already, with another body")
    check_broadcast(wish)
    if opened is not None and opened.refusal is not None:
        raise Rejected(opened.refusal.code, opened.refusal.detail)
    recipients = () if opened is None else opened.recipients
    if opened is None or not recipients:
        raise Rejected("no_recipients", "there is no bot that this broadcast could go to")
    if len(recipients) > BROADCAST_MAX:
        raise Rejected(
            "too_many_recipients", f"{len(recipients)} bots; a broadcast goes to {BROADCAST_MAX} at most"
        )
    return [
        BroadcastSent(
            broadcast_id=wish.broadcast_id,
            sender=wish.sender,
            content=wish.content,
            priority=wish.priority,
            kind=wish.kind,
            body_hash=wish.body_hash,
            ttl_s=wish.ttl_s,
            selection=opened.selection,
            recipients=recipients,
        )
    ]


BROADCAST: Final = Decider[Broadcast, BroadcastWish, BroadcastEvent](
    initial=NoBroadcast(), evolve=evolve, decide=decide
)
