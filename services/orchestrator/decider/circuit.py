"""A bot's circuit: open after too many failures, then tried with one task at a time, then closed again."""

from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from services.orchestrator.commands import MendCircuit, TripCircuit, TryCircuit
from shared.contracts.orchestrator.commands import CloseCircuit, OpenCircuit
from shared.contracts.orchestrator.facts import CircuitClosed, CircuitHalfOpened, CircuitOpened

CircuitEvent = CircuitOpened | CircuitHalfOpened | CircuitClosed
CircuitWish = OpenCircuit | CloseCircuit | TripCircuit | TryCircuit | MendCircuit


class Closed(msgspec.Struct, frozen=True):
    """It is given tasks like any other.

    `since` is the sequence at which it became so; attempts that began before do not count any more.
    """

    since: int = 0


class Open(msgspec.Struct, frozen=True):
    """It is given nothing until then."""

    since: int
    until: datetime
    reason: str


class HalfOpen(msgspec.Struct, frozen=True):
    """It is given one task at a time, to see how that ends. `reason` is why it was opened."""

    since: int
    reason: str


Circuit = Closed | Open | HalfOpen


def evolve(circuit: Circuit, fact: CircuitEvent, sequence: int) -> Circuit:
    """The circuit after one of its facts."""
    match fact:
        case CircuitOpened():
            return Open(since=sequence, until=fact.until, reason=fact.reason)
        case CircuitHalfOpened():
            return HalfOpen(since=sequence, reason="" if isinstance(circuit, Closed) else circuit.reason)
        case CircuitClosed():
            return Closed(since=sequence)
        case _:
            assert_never(fact)


def decide(circuit: Circuit, command: CircuitWish, at: datetime) -> list[CircuitEvent]:
    """The facts that follow. What we ask of ourselves is about one change: later it means nothing."""
    match command:
        case OpenCircuit():
            until = at + timedelta(seconds=command.for_s)
            if isinstance(circuit, Open) and circuit.until >= until:
                return []
            return [CircuitOpened(bot_id=command.bot_id, reason=command.reason, until=until)]
        case CloseCircuit():
            if isinstance(circuit, Closed):
                return []
            return [CircuitClosed(bot_id=command.bot_id, reason=command.reason)]
        case TripCircuit():
            return _trip(circuit, command, at)
        case TryCircuit():
            if isinstance(circuit, Open) and circuit.since == command.since and circuit.until <= at:
                return [CircuitHalfOpened(bot_id=command.bot_id)]
            return []
        case MendCircuit():
            if isinstance(circuit, HalfOpen) and circuit.since == command.since:
                return [CircuitClosed(bot_id=command.bot_id, reason=command.reason)]
            return []
        case _:
            assert_never(command)


def _trip(circuit: Circuit, command: TripCircuit, at: datetime) -> list[CircuitEvent]:
    if isinstance(circuit, Open) or circuit.since != command.since:
        return []
    return [
        CircuitOpened(
            bot_id=command.bot_id,
            reason=command.reason,
            until=at + timedelta(seconds=command.for_s),
            failures=command.failures,
            attempts=command.attempts,
            trial=isinstance(circuit, HalfOpen),
        )
    ]
