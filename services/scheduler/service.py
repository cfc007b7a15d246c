"""The scheduler at work: follows the log, and publishes the opinions that changed."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from services.scheduler.answers import Answers
from services.scheduler.projection import Books, Changes
from services.scheduler.tables import restore
from shared.contracts.naming import partition_of, routing_subject
from shared.contracts.scheduler.routing import RoutingTable
from shared.contracts.words import TaskType
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Recorded
from shared.runtime.connection import BrokerRefused
from shared.runtime.publish import Publisher

PUBLISH_EVERY_S: Final = 0.5
PUBLISHED_WITHIN_S: Final = 5.0

_log = logging.getLogger(__name__)


class Scheduler:
    """Publishes only what changed, each type at most twice a second, and only while the type is ours.

    Whoever takes over, or comes back to the broker, publishes all again: what stands there may be older.
    """

    def __init__(
        self, books: Books, answers: Answers, publisher: Publisher, *, owned: Callable[[], frozenset[int]]
    ) -> None:
        self._books = books
        self._answers = answers
        self._publisher = publisher
        self._owned = owned
        self._ours: frozenset[int] = frozenset()
        self._changes = Changes()
        self._dirty: set[TaskType] = set()
        self._published: dict[TaskType, RoutingTable] = {}
        self._wake = asyncio.Event()

    def begun(self, _sequence: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """All that was known at this sequence."""
        restore(self._books, rows)
        self._all_again()

    def followed(self, commit: Recorded[Any]) -> None:
        """A commit as the log tells it."""
        self._books.take(commit, self._changes)
        if self._changes.types:
            self._dirty |= self._changes.types
            self._wake.set()
        self._changes.clear()

    async def todo(self, owned: frozenset[int]) -> None:
        """Look at everything: the configuration may have changed, or types may be ours that were not."""
        if owned - self._ours:
            self._published.clear()
        self._ours = owned
        if owned:
            self._dirty.update(self._books.books)
            self._wake.set()

    async def on_reconnect(self) -> None:
        """Another may have published meanwhile, or the bucket may have been put back."""
        self._all_again()

    async def run(self) -> None:
        """Publish what changed, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            owned = self._owned()
            dirty, self._dirty = self._dirty, set()
            for kind in sorted(dirty):
                if partition_of(kind) in owned:
                    await self._publish(kind)
            await asyncio.sleep(PUBLISH_EVERY_S)

    async def _publish(self, kind: TaskType) -> None:
        table = self._answers.table(kind)
        before = self._published.get(kind)
        if before is not None and (before.policy, before.bots) == (table.policy, table.bots):
            return
        try:
            await self._publisher.publish(routing_subject(kind), encode(table), deadline_s=PUBLISHED_WITHIN_S)
        except (Unavailable, BrokerRefused) as error:
            _log.warning("the opinions about %s are not published now: %s", kind, error)
            self._dirty.add(kind)
            self._wake.set()
        else:
            self._published[kind] = table

    def _all_again(self) -> None:
        self._published.clear()
        self._dirty.update(self._books.books)
        self._wake.set()
