"""Facts in: one follower of the log for a process, and the memory views that it feeds."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from shared.kernel.codec import Codec
from shared.kernel.errors import Behind
from shared.kernel.messages import Recorded
from shared.runtime import metrics
from shared.runtime.handler import recorded
from shared.runtime.store import EventStore, Stored

E = TypeVar("E")

WAIT_FOR_VIEW_S: Final = 1.0
OWN_COMMITS_MAX: Final = 20_000


class View(Protocol):
    """What the follower feeds. `position` is the last sequence it has taken in."""

    name: str
    aggregates: frozenset[str]

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        ...

    async def take(self, batch: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in commits in log order; `upto` is the last sequence of the batch, theirs or not."""
        ...


class MemoryView(Generic[E]):
    """A fold in memory, built from the whole log at each start."""

    def __init__(self, name: str, aggregates: Collection[str], apply: Callable[[Recorded[E]], None]) -> None:
        self.name = name
        self.aggregates = frozenset(aggregates)
        self._apply = apply
        self._position = 0

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        return self._position

    async def take(self, batch: Sequence[Recorded[E]], upto: int) -> None:
        """Fold commits in log order."""
        for commit in batch:
            self._apply(commit)
        self._position = upto


class Follower:
    """Follows the log once for all views of a process.

    `codecs` says how the facts of each kind of aggregate are read: of `strict` ones every fact is decoded, or
    the follower stops (they are the owner's); others skip what they do not hear.
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
        start = min(view.position for view in self._views)
        self.position = start
        async for batch in self._store.follow(sorted(self._codecs), start):
            read = [self._read(stored) for stored in batch]
            upto = batch[-1].sequence
            for view in self._views:
                if upto > view.position:
                    news = [
                        each
                        for each in read
                        if each.aggregate in view.aggregates and each.sequence > view.position
                    ]
                    await view.take(news, upto)
            self.position = upto
            async with self._moved:
                self._moved.notify_all()

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

    def _read(self, stored: Stored) -> Recorded[Any]:
        own = self._own.pop(stored.sequence, None)
        if own is not None:
            return own
        codec = self._codecs[stored.aggregate]
        decode = codec.decode_all if stored.aggregate in self._strict else codec.decode_known
        facts = decode(stored.commit.facts)
        return recorded(facts, stored.commit, stored.aggregate, stored.aggregate_id, stored.sequence)
