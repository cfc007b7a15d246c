"""Publishes to one stream: one by one while that is fast, together in one atomic batch when many wait.

A single publish has the best latency. An atomic batch has one sync of the disk for all its messages, but
takes some milliseconds whatever its size. Both are measured all the time; what waits goes the cheaper way.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from shared.kernel.errors import Unavailable
from shared.runtime.atomic import publish_atomically
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused
from shared.runtime.publish import MESSAGE_TOO_LARGE, Publisher, complete_headers

DEADLINE_S: Final = 10.0
DIRECT_MAX: Final = 4  # so few in flight: one more goes at once, without a look at what else waits
SINGLES_MAX: Final = 64  # in flight; more do not make a stream faster
BATCH_FROM: Final = 16
BATCH_MAX: Final = 500  # the server takes 1,000 messages in a batch
BATCH_BYTES_MAX: Final = 4_000_000
BATCH_S: Final = 0.008  # the part of a batch's time that does not grow with it, before any was measured
BATCH_S_MIN: Final = 0.002
IN_BATCH_S: Final = 0.000_025  # what each message of a batch adds
BUSY: Final = 8  # singles in flight from which the time between two acks is what one of them costs
SINGLE_WEIGHS: Final = 1 / 32
BATCH_WEIGHS: Final = 1 / 5
FORGET: Final = 0.97  # of a single's cost, with each batch: so singles are tried again some time


class _Item:
    """One message that waits for its turn: a sequence when a batch stored it, None to go by itself."""

    __slots__ = ("alone", "data", "deadline", "headers", "msg_id", "subject", "turn")

    def __init__(
        self, subject: str, data: bytes, headers: Mapping[str, str], msg_id: str | None, deadline: float
    ) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.msg_id = msg_id
        self.deadline = deadline
        self.alone = False
        self.turn: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()


class Waves:
    """The publishes to one stream. Each has its own end: its sequence, BrokerRefused, or Unavailable."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: deque[_Item] = deque()
        self._looking = False
        self._singles = 0
        self._acked_at: float | None = None
        self._single_s = 0.0
        self._batch_s = BATCH_S
        self._batching: asyncio.Task[None] | None = None
        publisher.connection.on_disconnect(self._lose)

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        *,
        msg_id: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> int:
        """Store one message; its sequence. Without a message id it is never sent twice."""
        if len(data) > self._publisher.connection.nc.max_payload:
            raise BrokerRefused(MESSAGE_TOO_LARGE, f"{len(data)} bytes are too many for one message")
        if msg_id is None and not self._publisher.connection.connected:
            raise Unavailable("the broker is away: not sent")
        item = _Item(subject, data, headers, msg_id, monotonic() + deadline_s)
        if self._batching is not None or self._waiting or self._singles >= DIRECT_MAX:
            self._waiting.append(item)
            self._look_soon()
            sequence = await self._turn(item)
            if sequence is not None:
                return sequence
        else:
            self._singles += 1
        return await self._single(item)

    async def _turn(self, item: _Item) -> int | None:
        try:
            return await item.turn
        except asyncio.CancelledError:
            told = item.turn.done() and not item.turn.cancelled() and item.turn.exception() is None
            if told and item.turn.result() is None:
                self._end_single()  # its turn had just come
            raise

    async def _single(self, item: _Item) -> int:
        """Go by itself; the turn was counted when it was given."""
        try:
            ack = await self._publisher.publish(
                item.subject,
                item.data,
                headers=item.headers,
                msg_id=item.msg_id,
                deadline_s=item.deadline - monotonic(),
            )
        finally:
            self._end_single()
        return ack.seq

    def _end_single(self) -> None:
        self._singles -= 1
        now = monotonic()
        if self._acked_at is not None:
            self._single_s += SINGLE_WEIGHS * (now - self._acked_at - self._single_s)
        self._acked_at = now if self._singles >= BUSY and self._batching is None else None
        if self._waiting:
            self._look_soon()

    def _lose(self) -> None:
        """The connection broke: what waits does not overtake what was sent before and came to nothing."""
        for item in self._waiting:
            if item.msg_id is None and not item.turn.done():
                item.turn.set_exception(Unavailable("the connection broke: not sent"))

    def _look_soon(self) -> None:
        """Look when all that comes in this moment has come."""
        if not self._looking and self._batching is None:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self._batching is not None:
            return
        if self._cheaper_together(len(self._waiting)) and self._publisher.connection.connected:
            batch = self._next_batch()
            if self._cheaper_together(len(batch)):
                self._acked_at = None
                # Its owner is this stream's waves; it ends with the batch, and every member with it.
                self._batching = asyncio.create_task(self._batch(batch))  # noqa: TID251
                return
            self._waiting.extendleft(reversed(batch))
        while self._waiting and self._singles < SINGLES_MAX:
            item = self._waiting.popleft()
            if not item.turn.done():
                self._singles += 1
                item.turn.set_result(None)

    def _cheaper_together(self, count: int) -> bool:
        return count >= BATCH_FROM and count * self._single_s > self._batch_s + count * IN_BATCH_S

    def _next_batch(self) -> list[_Item]:
        """What waits, in order, each subject once: an expectation holds for the first of a batch only."""
        batch: dict[str, _Item] = {}
        left: deque[_Item] = deque()
        size = 0
        for item in self._waiting:
            if item.turn.done():
                continue
            fits = len(batch) < BATCH_MAX and size + len(item.data) <= BATCH_BYTES_MAX
            if item.alone or item.subject in batch or not fits:
                left.append(item)
            else:
                batch[item.subject] = item
                size += len(item.data)
        self._waiting = left
        return list(batch.values())

    async def _batch(self, batch: list[_Item]) -> None:
        began = monotonic()
        again: list[_Item] = []
        try:
            last = await publish_atomically(
                self._publisher.connection,
                [
                    (item.subject, item.data, complete_headers(item.headers, item.msg_id, None) or {})
                    for item in batch
                ],
                within_s=max(item.deadline for item in batch) - began,
            )
        except BrokerRefused:
            again = batch  # refused whole, perhaps for one of them: nothing was stored
        except Unavailable as unknown:
            again = [item for item in batch if item.msg_id is not None]
            for item in batch:
                if item.msg_id is None and not item.turn.done():
                    item.turn.set_exception(Unavailable(str(unknown)))
        else:
            for place, item in enumerate(batch, 1):
                if not item.turn.done():
                    item.turn.set_result(last - len(batch) + place)
        finally:
            self._end_batch(batch, again, monotonic() - began)

    def _end_batch(self, batch: list[_Item], again: list[_Item], took_s: float) -> None:
        """Note what it cost, and let those go singly of whom it may be said again."""
        if again:
            took_s += len(again) * self._single_s
        fixed_s = max(BATCH_S_MIN, took_s - len(batch) * IN_BATCH_S)
        self._batch_s += BATCH_WEIGHS * (fixed_s - self._batch_s)
        self._single_s *= FORGET
        self._batching = None
        for item in again:
            item.alone = True
        self._waiting.extendleft(reversed(again))
        ours = set(map(id, again))
        for item in batch:
            if id(item) not in ours and not item.turn.done():
                item.turn.set_exception(Unavailable("the batch was broken off: the outcome is unknown"))
        if self._waiting:
            self._look_soon()
