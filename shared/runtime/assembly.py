"""What a service is made of, and what it is given to be made with."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from nats.aio.msg import Msg  # noqa: TID251

from shared.contracts.config import Config
from shared.kernel.codec import Codec
from shared.kernel.decider import Decider
from shared.kernel.messages import Command, Query, Recorded
from shared.runtime import clock, ids
from shared.runtime.commands import Send
from shared.runtime.connection import Connection
from shared.runtime.handler import Effects, Handler, Known
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.projection import Follower, MemoryView, View
from shared.runtime.publish import Publisher
from shared.runtime.queries import Answer, Ask
from shared.runtime.settings import Settings
from shared.runtime.store import EventStore
from shared.runtime.straight import Hear
from shared.runtime.views import Rows, Table

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")
A = TypeVar("A")


@dataclass(frozen=True)
class Assembly:
    """A service's parts. `todo(owned partitions)` does what is outstanding; it repeats harmlessly."""

    commands: Sequence[Route] = ()
    queries: Sequence[Answer] = ()
    views: Sequence[View] = ()
    tables: Sequence[Table] = ()
    todo: Callable[[frozenset[int]], Awaitable[None]] | None = None
    subscriptions: Sequence[tuple[str, Callable[[Msg], Awaitable[None]]]] = ()
    straight: Sequence[tuple[str, Hear]] = ()  # as subscriptions, but heard at once and without headers
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    closing: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass
class Runtime:
    """What `assemble` is given: the seams of this process, ready to use."""

    service: str
    settings: Settings
    connection: Connection
    publisher: Publisher
    store: EventStore
    send: Send
    ask: Ask
    config: Callable[[], Config]
    tasks: asyncio.TaskGroup
    now: Callable[[], datetime] = clock.now
    monotonic: Callable[[], float] = clock.monotonic
    new_id: Callable[[], str] = ids.new_id
    draw: Callable[[], float] = ids.draw
    codecs: dict[str, Codec[Any]] = field(default_factory=dict)
    strict: set[str] = field(default_factory=set)
    partitions: frozenset[int] = frozenset()
    due: asyncio.Event = field(default_factory=asyncio.Event)
    follower: Follower | None = None

    def handler(
        self,
        decider: Decider[S, C, E],
        aggregate: str,
        codec: Codec[E],
        *,
        prepare: Callable[[S, C], C] | None = None,
        released: Callable[[C], None] | None = None,
        on_commit: Callable[[Recorded[E]], None] | None = None,
        recall: Callable[[str], Known[S] | None] | None = None,
    ) -> Handler[S, C, E]:
        """The handler of an aggregate that this service owns."""
        self.codecs[aggregate] = codec
        self.strict.add(aggregate)

        def committed(commit: Recorded[E]) -> None:
            if self.follower is not None:
                self.follower.remember(commit)
            if on_commit is not None:
                on_commit(commit)

        return Handler(
            decider,
            aggregate,
            codec,
            self.store,
            now=self.now,
            new_id=self.new_id,
            service=self.service,
            effects=Effects(prepare=prepare, released=released, committed=committed, recall=recall),  # type: ignore[arg-type]
        )

    def follow(
        self,
        name: str,
        codecs: dict[str, Codec[Any]],
        apply: Callable[[Recorded[Any]], None],
        *,
        live: Live | None = None,
    ) -> MemoryView[Any]:
        """A fold in memory over some aggregates; facts of other owners that it does not hear are skipped.

        At each start it is built from the whole log, or with `live` from what a table says is alive.
        """
        self._hear(codecs)
        return MemoryView(name, codecs, apply, live)

    def table(
        self,
        name: str,
        *,
        version: int,
        schema: Sequence[str],
        codecs: dict[str, Codec[Any]],
        rows: Rows,
        forget: Callable[[], None] = lambda: None,
    ) -> Table:
        """A SQLite view over some aggregates, in a file of this instance.

        `forget` is called when what `rows` returned was not stored: what it remembered is void.
        """
        self._hear(codecs)
        folder: Path = self.settings.data / "views" / self.settings.instance
        return Table(
            folder / f"{name}.sqlite",
            version=version,
            schema=schema,
            aggregates=codecs,
            rows=rows,
            forget=forget,
        )

    def answer(self, query: type[Query[A]], answer: Callable[[Any], Awaitable[A]]) -> Answer:
        """Who answers a kind of question."""
        return Answer(query, answer)

    def owned(self) -> frozenset[int]:
        """The partitions decided here and now; empty on a standby."""
        return self.partitions

    def wake(self) -> None:
        """Run `todo` soon: something became outstanding."""
        self.due.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else; what it raises ends the process."""
        self.tasks.create_task(work)

    async def seen(self, sequence: int) -> None:
        """Wait until the views have seen a sequence; Behind when that takes too long."""
        if self.follower is not None and sequence:
            await self.follower.reached(sequence)

    def _hear(self, codecs: dict[str, Codec[Any]]) -> None:
        for aggregate, codec in codecs.items():
            assert self.codecs.setdefault(aggregate, codec) is codec, f"two codecs for {aggregate}"
