"""Facts in: one follower of the log for a process, and the memory views that it feeds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

from shared.kernel.codec import Codec
from shared.kernel.errors import Behind
from shared.kernel.messages import Recorded
from shared.runtime import metrics
from shared.runtime.handler import recorded
from shared.runtime.living import Live, begin, until_answered
from shared.runtime.store import EventStore, Stored
from shared.runtime.views import Table

E = TypeVar("E")

WAIT_FOR_VIEW_S: Final = 1.0
OWN_COMMITS_MAX: Final = 20_000


class View(Protocol):
    """What the follower feeds. One that is `apart` is fed by itself, until it is where the others are."""

    name: str
    aggregates: frozenset[str]
    apart: bool

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        ...

    def take(self, batch: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in commits in log order; `upto` is the last sequence of the batch, theirs or not."""
        ...


class MemoryView(Generic[E]):
    """A fold in memory, built at each start: from the whole log, or from what is alive in it."""

    def __init__(
        self,
        name: str,
        aggregates: Collection[str],
        apply: Callable[[Recorded[E]], None],
        live: Live | None = None,
    ) -> None:
        self.name = name
        self.aggregates = frozenset(aggregates)
        self.apart = False
        self._apply = apply
        self._live = live
        self._position = 0

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        return self._position

    async def begin(self, store: EventStore, decode: Callable[[Stored], Recorded[E]]) -> None:
        """Begin where the table stands, if there is one to begin from."""
        if self._live is not None:
            self._position = await begin(self._live, self.aggregates, store, decode, self._apply)

    def take(self, batch: Sequence[Recorded[E]], upto: int) -> None:
        """Fold commits in log order."""
        for commit in batch:
            self._apply(commit)
        self._position = upto


class Follower:
    """Follows the log once for all views of a process.

    `codecs` says how the facts of each kind of aggregate are read: of `strict` ones every fact is decoded, or
    the follower stops (they are the owner's); others skip what they do not hear.

    At the start each table catches up, then the views in memory begin, then all are fed together. Feeding
    never waits for a view: a table that stops is left out, and fed by itself until it is there again.
    """

    def __init__(
        self, service: str, store: EventStore, codecs: Mapping[str, Codec[Any]], strict: Collection[str]
    ) -> None:
        self._service = service
        self._store = store
        self._codecs = dict(codecs)
        self._strict = frozenset(strict)
        self._views: list[View] = []
        self._own: dict[int, Recorded[Any]] = {}
        self._moved = asyncio.Condition()
        self._level = 0  # where a table must be to be fed with the others
        self.position = 0

    def add(self, view: View) -> None:
        """Feed this view, too."""
        self._views.append(view)

    def remember(self, commit: Recorded[Any]) -> None:
        """An own commit, decoded already: it need not be read again when the log brings it."""
        if len(self._own) < OWN_COMMITS_MAX:
            self._own[commit.sequence] = commit

    async def run(self) -> None:
        """Feed the views for ever. Undecodable from an owner's view ends it, and the process says so."""
        if not self._views:
            return
        tables = [view for view in self._views if isinstance(view, Table)]
        for table in tables:
            table.apart = True
        self._level = await until_answered(self._end)
        try:
            async with asyncio.TaskGroup() as group:
                for table in tables:
                    group.create_task(self._keep(table))
                group.create_task(self._feed_all(tables))
        except BaseExceptionGroup as ended:
            raise _first_of(ended) from None

    async def reached(self, sequence: int, within_s: float = WAIT_FOR_VIEW_S) -> None:
        """Wait until the views have seen this sequence; Behind when that takes too long."""
        if self.position >= sequence:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._moved:
                await self._moved.wait_for(lambda: self.position >= sequence)
                return
        raise Behind(f"the views stand at {self.position}, you asked for {sequence}")

    async def lag(self) -> int:
        """How many sequences the view that is furthest behind has yet to see of what it hears."""
        ends = {aggregate: await self._store.version(aggregate, "*") for aggregate in self._codecs}
        lags = [0]
        for view in self._views:
            end = max((ends[aggregate] for aggregate in view.aggregates), default=0)
            lags.append(max(0, end - view.position))
            metrics.LAG.labels(self._service, view.name).set(lags[-1])
        return max(lags)

    async def _end(self) -> int:
        return max([await self._store.version(aggregate, "*") for aggregate in self._codecs], default=0)

    async def _feed_all(self, tables: Sequence[Table]) -> None:
        for table in tables:
            await table.joined()
        for view in self._views:
            if isinstance(view, MemoryView):
                await view.begin(self._store, self._read)
        await self._move(min((view.position for view in self._views if not view.apart), default=self._level))
        async with self._after(self.position) as batches:
            async for batch in batches:
                read = [self._read(stored) for stored in batch]
                upto = batch[-1].sequence
                for view in self._views:
                    if not view.apart:
                        _give(view, read, upto)
                self._level = max(self._level, upto)
                await self._move(upto)

    async def _keep(self, table: Table) -> None:
        """Feed a table by itself whenever it is not where the others are."""
        while True:
            await self._catch_up(table)
            await table.stopped()
            table.apart = True
            await table.begin_again()

    async def _catch_up(self, table: Table) -> None:
        if table.position >= self._level:
            table.join()
            return
        async with self._after(table.position) as batches:
            async for batch in batches:
                _give(table, [self._read(stored) for stored in batch], batch[-1].sequence)
                await table.room()
                if table.position >= self._level:
                    table.join()  # nothing is awaited since the look at the level: no commit is passed over
                    return
                if table.is_stopped:
                    return

    def _after(self, sequence: int) -> AbstractAsyncContextManager[AsyncIterator[list[Stored]]]:
        return contextlib.aclosing(self._store.follow(sorted(self._codecs), sequence))  # type: ignore[type-var]

    async def _move(self, upto: int) -> None:
        self.position = upto
        async with self._moved:
            self._moved.notify_all()

    def _read(self, stored: Stored) -> Recorded[Any]:
        own = self._own.pop(stored.sequence, None)
        if own is not None:
            return own
        codec = self._codecs[stored.aggregate]
        decode = codec.decode_all if stored.aggregate in self._strict else codec.decode_known
        facts = decode(stored.commit.facts)
        return recorded(facts, stored.commit, stored.aggregate, stored.aggregate_id, stored.sequence)


def _give(view: View, read: Sequence[Recorded[Any]], upto: int) -> None:
    if upto > view.position:
        view.take(
            [each for each in read if each.aggregate in view.aggregates and each.sequence > view.position],
            upto,
        )


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
