"""Where a thing is that no view knows yet: in its owner's queue, in the log, in the dead letters, or nowhere.

The order of asking has no gap, since a commit and a dead letter each precede the acknowledgement.
"""

from dataclasses import dataclass
from typing import Protocol

from shared.contracts.dead import ListDead
from shared.contracts.naming import EVENTS, command_stream, event_subject, waiting_command_filter
from shared.runtime.connection import Connection
from shared.runtime.directget import last_on, peek
from shared.runtime.queries import Ask


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """It waits for its owner, or the views are about to show it."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Its owner could not handle it."""

    letter_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """There is no such thing."""


Place = OnItsWay | Dead | Nowhere


class Whereabouts(Protocol):
    """Where an aggregate is that its owner's view lacks."""

    async def __call__(self, service: str, aggregate: str, aggregate_id: str) -> Place:
        """Raises Unavailable."""
        ...


class BrokerWhereabouts:
    """Whereabouts, asked of the broker."""

    def __init__(self, connection: Connection, ask: Ask) -> None:
        self._connection = connection
        self._ask = ask

    async def __call__(self, service: str, aggregate: str, aggregate_id: str) -> Place:
        """The queue first, then the log, then the dead letters."""
        waiting = waiting_command_filter(service, aggregate_id)
        if await peek(self._connection, command_stream(service), waiting) is not None:
            return OnItsWay()
        if await last_on(self._connection, EVENTS, event_subject(aggregate, aggregate_id)) is not None:
            return OnItsWay()
        letters = await self._ask(ListDead(key=aggregate_id, limit=1), service=service)
        for letter in letters.items:
            return Dead(letter.id, letter.reason)
        return Nowhere()
