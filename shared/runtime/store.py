"""The seam to the log: commits in, commits out, in one order."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from shared.kernel.messages import Commit

EVERY_AGGREGATE = ("*",)
"""For `follow`: the commits of all aggregates."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A commit where the log holds it. `sequence` is its place in the whole log."""

    sequence: int
    aggregate: str
    aggregate_id: str
    commit: Commit


class EventStore(Protocol):
    """An append-only log of commits. Every method may raise Unavailable."""

    async def read(self, aggregate: str, aggregate_id: str, after: int = 0) -> list[Stored]:
        """All commits of one aggregate, or those after a sequence, oldest first."""
        ...

    async def version(self, aggregate: str, aggregate_id: str) -> int:
        """The sequence of the aggregate's last commit, or with `*` of its kind's; 0 if it has none."""
        ...

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        """Store the commit if the aggregate's version is `expected`; its sequence.

        VersionConflict: someone was faster. NotStored: the log is full. Another Unavailable: perhaps stored,
        perhaps not; read back.
        """
        ...

    async def record(self, service: str, commit: Commit) -> int:
        """Store what is no fact of an aggregate but belongs on record, unguarded; its sequence."""
        ...

    def follow(self, aggregates: Collection[str], after: int) -> AsyncIterator[list[Stored]]:
        """The commits of these kinds of aggregate after a sequence, in order, without a gap, for ever."""
        ...

    async def last_sequence(self) -> int:
        """The last sequence of the whole log; 0 if it is empty."""
        ...

    async def identity(self) -> str:
        """Which log this is: another one after it was deleted and made again."""
        ...
