"""Publishes to one stream in waves: what waits goes together, singly or as one atomic batch, as is cheaper.

A single publish has the best latency; an atomic batch has one sync of the disk for all its messages, but
takes some milliseconds whatever its size. So each wave compares what batches have cost with what singles would.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from shared.kernel.errors import Unavailable
from shared.runtime.atomic import publish_atomically
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused
from shared.runtime.publish import Publisher, complete_headers

WAVE_MAX: Final = 500  # the server takes 1,000 messages in a batch
WAVE_BYTES_MAX: Final = 4_000_000
DEADLINE_S: Final = 10.0
BATCH_S: Final = 0.004  # before any was measured
NEWEST_WEIGHS: Final = 0.2
BATCH_FROM: Final = 16
PROBE: Final = 24  # singles of one wave, by which their cost is measured
PROBE_EVERY: Final = 64  # waves


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a wave. Without a message id it is never sent twice."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    msg_id: str | None
    stored: "asyncio.Future[int]"
    deadline_s: float


class Waves:
    """The waves of one stream. Each message has its own end: its sequence, BrokerRefused, or Unavailable."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: list[Item] = []
        self._running: asyncio.Task[None] | None = None
        self._single_s = 0.0  # of one among many; 0: not measured yet
        self._batch_s = BATCH_S
        self._until_probe = 0

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        *,
        msg_id: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> int:
        """Store one message, together with what else waits; its sequence."""
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(Item(subject, data, headers, msg_id, stored, deadline_s))
        if self._running is None or self._running.done():
            # Its owner is the stream's waves: it ends when nothing waits.
            self._running = asyncio.create_task(self._run())  # noqa: TID251
        return await stored

    async def _run(self) -> None:
        while self._waiting:
            many = len(self._waiting) >= BATCH_FROM
            self._until_probe -= many
            probing = many and self._until_probe < 0
            wave = self._next_wave(PROBE if probing else WAVE_MAX)
            began = monotonic()
            if not probing and self._is_cheaper_together(len(wave)):
                await self._batch(wave)
                self._batch_s += NEWEST_WEIGHS * (monotonic() - began - self._batch_s)
            else:
                await self._singly(wave)
                if len(wave) >= BATCH_FROM:
                    self._note_singles((monotonic() - began) / len(wave))

    def _is_cheaper_together(self, count: int) -> bool:
        return count >= BATCH_FROM and count * self._single_s > self._batch_s

    def _note_singles(self, each_s: float) -> None:
        self._single_s = (
            each_s if not self._single_s else self._single_s + NEWEST_WEIGHS * (each_s - self._single_s)
        )
        self._until_probe = PROBE_EVERY

    def _next_wave(self, size_max: int) -> list[Item]:
        """What waits, in order, each subject once: an expectation holds for the first of a batch only."""
        wave: dict[str, Item] = {}
        size = 0
        for item in islice(self._waiting, size_max):
            size += len(item.data)
            if item.subject in wave or (wave and size > WAVE_BYTES_MAX):
                break
            wave[item.subject] = item
        del self._waiting[: len(wave)]
        return list(wave.values())

    async def _batch(self, wave: list[Item]) -> None:
        try:
            last = await publish_atomically(
                self._publisher.connection,
                [
                    (item.subject, item.data, complete_headers(item.headers, item.msg_id, None) or {})
                    for item in wave
                ],
                within_s=max(item.deadline_s for item in wave),
            )
        except BrokerRefused:
            await self._singly(wave)  # refused whole, perhaps for one of them: nothing was stored
        except Unavailable as unknown:
            for item in wave:
                if item.msg_id is None:
                    _fail(item, Unavailable(str(unknown)))
            await self._singly([item for item in wave if item.msg_id is not None])
        else:
            for place, item in enumerate(wave):
                if not item.stored.done():
                    item.stored.set_result(last - len(wave) + 1 + place)

    async def _singly(self, wave: list[Item]) -> None:
        if len(wave) == 1:
            await self._single(wave[0])
            return
        async with asyncio.TaskGroup() as group:
            for item in wave:
                group.create_task(self._single(item))

    async def _single(self, item: Item) -> None:
        try:
            ack = await self._publisher.publish(
                item.subject,
                item.data,
                headers=item.headers,
                msg_id=item.msg_id,
                deadline_s=item.deadline_s,
            )
        except (BrokerRefused, Unavailable) as error:
            _fail(item, error)
        else:
            if not item.stored.done():
                item.stored.set_result(ack.seq)


def _fail(item: Item, error: Exception) -> None:
    if not item.stored.done():
        item.stored.set_exception(error)
