"""The output of a running task as it appears: chunks in order, and a word where some are missing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn, Protocol

import msgspec

from shared.contracts.naming import LIVE, live_subject
from shared.contracts.words import TaskId
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import last_on, peek
from shared.runtime.follow import Arrived, arrivals


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the bot published it (JSON), and its place in the stream."""

    sequence: int
    data: bytes


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Output that can no longer be had here: after one sequence, before another; the result has all of it.

    `missing` is the number of chunks, where that is known.
    """

    after: int
    before: int
    missing: int | None = None


Hear = Callable[[Piece | Gap], Awaitable[None]]


class LiveOutput(Protocol):
    """Live output of tasks."""

    async def follow(self, task_id: TaskId, after: int, hear: Hear) -> NoReturn:
        """Tell what came after a sequence, then what comes, for ever."""
        ...

    async def last(self, task_id: TaskId) -> int:
        """The sequence of the newest chunk; 0 if there is none."""
        ...


class _Place(msgspec.Struct):
    token: int
    index: int


_place = msgspec.json.Decoder(_Place)


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Info(msgspec.Struct):
    state: _State = _State()


class BrokerLive:
    """LiveOutput from the stream LIVE."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def last(self, task_id: TaskId) -> int:
        """The sequence of the newest chunk; 0 if there is none."""
        found = await last_on(self._connection, LIVE, _subject(task_id))
        return 0 if found is None else found.sequence

    async def follow(self, task_id: TaskId, after: int, hear: Hear) -> NoReturn:
        """Tell what came after a sequence, then what comes; begun anew when the broker begins LIVE anew."""
        row = Row(after)
        if after:
            await self._resume(task_id, row)
        while True:
            with contextlib.suppress(TimeoutError):
                await self._until_reset(task_id, row, hear)
            row.restart()

    async def _until_reset(self, task_id: TaskId, row: "Row", hear: Hear) -> None:
        async with asyncio.timeout(None) as until:

            async def look() -> None:
                if await self._end() < row.seen:
                    until.reschedule(asyncio.get_running_loop().time())

            undo = self._connection.on_reconnect(look)
            try:
                async with aclosing(arrivals(self._connection, LIVE, [_subject(task_id)], row.seen)) as feed:
                    async for batch in feed:
                        for arrived in batch:
                            for word in row.take(arrived):
                                await hear(word)
            finally:
                undo()

    async def _resume(self, task_id: TaskId, row: "Row") -> None:
        """Stand behind the chunk that was seen last, if it is still there."""
        if await self._end() < row.seen:
            row.restart()
            return
        found = await peek(self._connection, LIVE, _subject(task_id), row.seen)
        if found is not None and found.sequence == row.seen:
            row.stand(_place.decode(found.data))

    async def _end(self) -> int:
        """The last sequence of the stream; 0 while it is not there: then it will begin anew."""
        try:
            data = await self._connection.api(f"STREAM.INFO.{LIVE}")
        except BrokerRefused:
            return 0
        return msgspec.json.decode(data, type=_Info).state.last_seq


class Row:
    """Chunks of one task in a row: each attempt counts its own from 0, so that a missing one shows."""

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self._unknown = seen > 0
        self._token: int | None = None
        self._next = 0

    def stand(self, place: _Place) -> None:
        """The chunk at `seen` is this one."""
        self._token, self._next, self._unknown = place.token, place.index + 1, False

    def restart(self) -> None:
        """The stream was begun anew: its sequences are other ones."""
        self.seen = 0

    def take(self, arrived: Arrived) -> list[Piece | Gap]:
        """The chunk, after a gap if there is one before it."""
        place = _place.decode(arrived.data)
        expected = self._next if place.token == self._token else 0
        words: list[Piece | Gap] = []
        if self._unknown:
            words.append(Gap(after=self.seen, before=arrived.sequence))
        elif place.index > expected:
            words.append(Gap(after=self.seen, before=arrived.sequence, missing=place.index - expected))
        self.stand(place)
        self.seen = arrived.sequence
        words.append(Piece(arrived.sequence, arrived.data))
        return words


def _subject(task_id: TaskId) -> str:
    return live_subject("*", task_id)
