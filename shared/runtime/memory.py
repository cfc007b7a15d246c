"""The log in memory: the same promises as the real one, for tests and simulations of one process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection

from shared.kernel.errors import VersionConflict
from shared.kernel.messages import Commit
from shared.runtime.ids import new_id
from shared.runtime.store import EVERY_AGGREGATE, Stored

FOLLOW_BATCH_MAX = 256


class MemoryStore:
    """An EventStore whose log is a list."""

    def __init__(self) -> None:
        self._log: list[Stored] = []
        self._of: defaultdict[tuple[str, str], list[Stored]] = defaultdict(list)
        self._identity = f"memory {new_id()}"
        self._grown = asyncio.Event()

    async def read(self, aggregate: str, aggregate_id: str, after: int = 0) -> list[Stored]:
        """All commits of one aggregate, or those after a sequence, oldest first."""
        return [each for each in self._of.get((aggregate, aggregate_id), ()) if each.sequence > after]

    async def version(self, aggregate: str, aggregate_id: str) -> int:
        """The sequence of the aggregate's last commit, or with `*` of its kind's; 0 if it has none."""
        if aggregate_id == "*":
            return max((each.sequence for each in self._log if each.aggregate == aggregate), default=0)
        past = self._of.get((aggregate, aggregate_id))
        return past[-1].sequence if past else 0

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        """Store the commit if the aggregate's version is `expected`."""
        version = await self.version(aggregate, aggregate_id)
        if version != expected:
            raise VersionConflict(f"{aggregate} {aggregate_id} is at {version}, not at {expected}")
        return self._store(aggregate, aggregate_id, commit)

    async def record(self, service: str, commit: Commit) -> int:
        """Store a record of a service, unguarded."""
        return self._store("audit", service, commit)

    async def follow(self, aggregates: Collection[str], after: int) -> AsyncGenerator[list[Stored], None]:
        """The commits of these aggregates after a sequence, for ever."""
        everything = set(EVERY_AGGREGATE) <= set(aggregates)
        seen = after
        while True:
            grown = self._grown
            fresh = self._log[seen : seen + FOLLOW_BATCH_MAX]
            if not fresh:
                await grown.wait()
                continue
            seen = fresh[-1].sequence
            wanted = [stored for stored in fresh if everything or stored.aggregate in aggregates]
            if wanted:
                yield wanted

    async def last_sequence(self) -> int:
        """The last sequence of the whole log."""
        return len(self._log)

    async def identity(self) -> str:
        """A new one for each store."""
        return self._identity

    def _store(self, aggregate: str, aggregate_id: str, commit: Commit) -> int:
        stored = Stored(len(self._log) + 1, aggregate, aggregate_id, commit)
        self._log.append(stored)
        self._of[aggregate, aggregate_id].append(stored)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return stored.sequence
