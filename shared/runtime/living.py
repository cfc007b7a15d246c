"""How a view in memory begins: with what is alive, as a table of the same service knows it.

The log is read for those aggregates alone. So a start costs what is alive, not what ever was.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from shared.kernel.errors import Unavailable
from shared.kernel.messages import Recorded
from shared.runtime.ids import jittered
from shared.runtime.store import EventStore, Stored
from shared.runtime.views import Table

T = TypeVar("T")

READS_AT_ONCE: Final = 64
FOLDED_AT_ONCE: Final = 512
AGAIN_AFTER_S: Final = 0.5
_log = logging.getLogger(__name__)

Aggregate = tuple[str, str]
"""A kind of aggregate, and an id."""


@dataclass(frozen=True)
class Live:
    """What a memory view begins with.

    `alive`: for each kind of aggregate the query for the ids of those that it must hold; a kind that the view
    hears and that is not in it is read whole, so it should be one that stays small. `totals`: a query
    for what it counts of all others. `begun` is told the sequence at which it begins, and the rows of it,
    when all commits of what is alive up to that sequence have been applied.
    """

    table: Table
    alive: Mapping[str, str]
    totals: str
    begun: Callable[[int, Sequence[tuple[Any, ...]]], None]


class Snapshot(NamedTuple):
    """What the table says at one sequence."""

    at: int
    alive: list[Aggregate]
    totals: list[tuple[Any, ...]]


async def begin(
    live: Live,
    kinds: Collection[str],
    store: EventStore,
    decode: Callable[[Stored], Recorded[Any]],
    apply: Callable[[Recorded[Any]], None],
) -> int:
    """Apply the commits of all that is alive, in the order of the log; the sequence up to which."""
    snapshot = await _look(live)
    found = await _commits(store, snapshot.alive, snapshot.at)
    found += await _whole(store, sorted(set(kinds) - set(live.alive)), snapshot.at)
    commits = sorted(found, key=lambda stored: stored.sequence)
    for number, stored in enumerate(commits):
        apply(decode(stored))
        if number % FOLDED_AT_ONCE == 0:
            await asyncio.sleep(0)
    live.begun(snapshot.at, snapshot.totals)
    _log.info("%d alive at %d, of %d commits", len(snapshot.alive), snapshot.at, len(commits))
    return snapshot.at


async def until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for until there is one."""
    while True:
        try:
            return await ask()
        except Unavailable as away:
            _log.info("asking again: %s", away)
            await asyncio.sleep(jittered(AGAIN_AFTER_S))


async def _look(live: Live) -> Snapshot:
    """All answers of the table at one sequence; it may break meanwhile, and be built again."""
    table = live.table
    while True:
        await table.written()
        at = table.position
        alive: list[Aggregate] = []
        try:
            for aggregate, query in live.alive.items():
                alive += [(aggregate, row[0]) for row in await table.read(query)]
            totals = await table.read(live.totals)
        except Unavailable:
            continue
        if table.position == at:
            return Snapshot(at, alive, totals)


async def _commits(store: EventStore, alive: Sequence[Aggregate], upto: int) -> list[Stored]:
    found: list[Stored] = []
    waiting = iter(alive)

    async def read_some() -> None:
        for aggregate, aggregate_id in waiting:

            async def read(aggregate: str = aggregate, aggregate_id: str = aggregate_id) -> list[Stored]:
                return await store.read(aggregate, aggregate_id)

            found.extend(each for each in await until_answered(read) if each.sequence <= upto)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(READS_AT_ONCE, len(alive))):
            group.create_task(read_some())
    return found


async def _whole(store: EventStore, kinds: Sequence[str], upto: int) -> list[Stored]:
    async def end_of() -> int:
        return max([await store.version(kind, "*") for kind in kinds], default=0)

    found: list[Stored] = []
    end = await until_answered(end_of)
    if end:
        async with contextlib.aclosing(store.follow(kinds, 0)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                found += [each for each in batch if each.sequence <= upto]
                if batch[-1].sequence >= end:
                    break
    return found
