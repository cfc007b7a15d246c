"""What the holder of a seat does: learns which partitions it owns, decides their commands, runs `todo`."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shared.contracts.naming import command_consumer, command_stream
from shared.contracts.words import PARTITIONS, TODO_INTERVAL
from shared.kernel.errors import Unavailable
from shared.runtime import metrics
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.intake import Decides
from shared.runtime.pull import PullConsumer
from shared.runtime.queue import CommandQueue
from shared.runtime.refusals import Refusals

OWNERSHIP_EVERY_S: Final = 1.0
_CONSUMER_NOT_FOUND: Final = frozenset({10014, 10059})
_log = logging.getLogger(__name__)


class _ConsumerConfig(msgspec.Struct):
    filter_subjects: list[str] = []
    filter_subject: str = ""


class _ConsumerInfo(msgspec.Struct):
    config: _ConsumerConfig


async def owned_partitions(connection: Connection, service: str, colour: str) -> frozenset[int]:
    """The partitions that this colour's consumer filters for; none when it has no consumer."""
    stream, consumer = command_stream(service), command_consumer(service, colour)
    try:
        answer = await connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
    except BrokerRefused as refused:
        if refused.code in _CONSUMER_NOT_FOUND:
            return frozenset()
        raise Unavailable(str(refused)) from refused
    config = msgspec.json.decode(answer, type=_ConsumerInfo).config
    filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
    if not filters:
        return frozenset(range(PARTITIONS))  # an empty filter means everything
    # A filter that is no partition is how a colour says that it wants nothing.
    return frozenset(int(part) for each in filters if (part := each.split(".")[2]).isdecimal())


class Active:
    """Runs while the seat is held."""

    def __init__(
        self,
        runtime: Runtime,
        assembly: Assembly,
        queue: Callable[[], CommandQueue],
        refusals: Refusals,
        handlers: Sequence[Decides],
    ) -> None:
        self._runtime = runtime
        self._assembly = assembly
        self._queue = queue
        self._refusals = refusals
        self._handlers = handlers
        self._running: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The seat is ours."""
        await self.end()
        for handler in self._handlers:
            handler.forget()
        self._mark(held=True)
        self._running = self._runtime.tasks.create_task(self._run())

    async def end(self) -> None:
        """The seat is lost, or given up."""
        self._mark(held=False)
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait(
                [running]
            )  # what it raises is the process' to hear, a cancellation here is ours

    async def _run(self) -> None:
        settings = self._runtime.settings
        consumer = PullConsumer(
            self._runtime.connection,
            command_stream(self._runtime.service),
            command_consumer(self._runtime.service, settings.colour),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_ownership())
            if self._assembly.todo is not None:
                group.create_task(self._todo())
            group.create_task(self._queue().run(consumer))

    async def _watch_ownership(self) -> None:
        settings = self._runtime.settings
        while True:
            with contextlib.suppress(Unavailable):
                owned = await owned_partitions(
                    self._runtime.connection, self._runtime.service, settings.colour
                )
                gained = owned - self._runtime.partitions
                self._runtime.partitions = owned
                metrics.PARTITIONS_OWNED.labels(self._runtime.service, settings.colour).set(len(owned))
                if gained:
                    _log.info("gained %d partitions, now %d", len(gained), len(owned))
                    self._runtime.wake()
                await self._refusals.flush()
            await asyncio.sleep(OWNERSHIP_EVERY_S)

    async def _todo(self) -> None:
        assert self._assembly.todo is not None
        while True:
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: on Python 3.11 it may swallow the cancellation that a lost seat sends.
                async with asyncio.timeout(TODO_INTERVAL.total_seconds()):
                    await self._runtime.due.wait()
            self._runtime.due.clear()
            try:
                await self._assembly.todo(self._runtime.partitions)
            except Unavailable as away:
                _log.warning("what is outstanding stays so for now: %s", away)

    def _mark(self, *, held: bool) -> None:
        settings = self._runtime.settings
        metrics.SEAT.labels(self._runtime.service, settings.colour).set(1 if held else 0)
        if not held:
            self._runtime.partitions = frozenset()
            metrics.PARTITIONS_OWNED.labels(self._runtime.service, settings.colour).set(0)
