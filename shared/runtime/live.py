"""The output of a running task as it appears: chunks in order, and a word where some are missing."""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import msgspec

from shared.contracts.naming import LIVE, live_subject
from shared.contracts.words import TaskId
from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import following, last_on, peek
from shared.runtime.follow import AGAIN_AFTER_S, Arrived, arrivals
from shared.runtime.ids import jittered

WAITING_MAX: Final = 256  # chunks for one who follows and is slower than they come
WAITING_BYTES_MAX: Final = 262_144
LINGER_S: Final = 10.0  # after the last one left, before the consumer is given up


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
    text: str
    channel: str = "out"


_place = msgspec.json.Decoder(_Place)


def _read(data: bytes) -> _Place | None:
    """A chunk, if it is one: a bot may publish whatever it likes."""
    try:
        return _place.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Info(msgspec.Struct, frozen=True):
    created: str = ""
    state: _State = _State()


class _Reader:
    """One who follows: what came for it, or, if it does not keep up, that it has to look itself."""

    def __init__(self) -> None:
        self.waiting: deque[Arrived] = deque()
        self.behind = True
        self.begun_anew = False
        self.news = asyncio.Event()
        self.news.set()
        self._bytes = 0

    def tell(self, arrived: Arrived) -> None:
        """Take a chunk in."""
        if self.behind:
            return
        self._bytes += len(arrived.data)
        if self._bytes > WAITING_BYTES_MAX or len(self.waiting) >= WAITING_MAX:
            self.fall_behind()
        else:
            self.waiting.append(arrived)
            self.news.set()

    def take(self) -> Arrived:
        """The oldest that waits."""
        arrived = self.waiting.popleft()
        self._bytes -= len(arrived.data)
        return arrived

    def fall_behind(self, *, begun_anew: bool = False) -> None:
        """Let it look into the stream, from where it stands."""
        self.waiting.clear()
        self._bytes = 0
        self.behind = True
        self.begun_anew |= begun_anew
        self.news.set()


class BrokerLive:
    """LiveOutput from the stream LIVE: one consumer for all who follow, and none while nobody does.

    A consumer for each would cost a heartbeat a second for each, whether anything is said or not.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._readers: defaultdict[TaskId, set[_Reader]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._created: str | None = None
        self._until: asyncio.Timeout | None = None

    async def last(self, task_id: TaskId) -> int:
        """The sequence of the newest chunk; 0 if there is none."""
        found = await last_on(self._connection, LIVE, _subject(task_id))
        return 0 if found is None else found.sequence

    async def follow(self, task_id: TaskId, after: int, hear: Hear) -> NoReturn:
        """Tell what came after a sequence, then what comes; begun anew when the broker begins LIVE anew."""
        row = Row(after)
        if after:
            await self._resume(task_id, row)
        with self._reading(task_id) as reader:
            while True:
                await reader.news.wait()
                reader.news.clear()
                if reader.begun_anew:
                    reader.begun_anew = False
                    row.restart()
                if reader.behind:
                    reader.behind = (
                        False  # before the look: what comes from now on waits behind what is found
                    )
                    await self._catch_up(task_id, row, hear, reader)
                while reader.waiting:
                    await _tell(reader.take(), row, hear)

    async def run(self) -> NoReturn:
        """Feed those who follow, for ever."""
        while True:
            await self._wanted.wait()
            with contextlib.suppress(Unavailable, TimeoutError):
                await self._feed()
            if self._wanted.is_set():
                await asyncio.sleep(jittered(AGAIN_AFTER_S))
            else:
                self._created = None

    async def _feed(self) -> None:
        """Hand out what comes, until nobody follows any more, or the stream is another one."""
        info = await self._info()
        anew = self._created not in {None, info.created}
        self._created = info.created
        for readers in self._readers.values():
            for reader in readers:
                reader.fall_behind(begun_anew=anew)
        async with asyncio.timeout(None) as until:
            self._until = until
            undo = self._connection.on_reconnect(self._look)
            try:
                await self._hand_out(info.state.last_seq)
            finally:
                undo()
                self._until = None

    async def _hand_out(self, after: int) -> None:
        every_task = live_subject("*", "*")
        async with aclosing(arrivals(self._connection, LIVE, [every_task], after)) as feed:
            async for batch in feed:
                for arrived in batch:
                    for reader in self._readers.get(_task_of(arrived), ()):
                        reader.tell(arrived)

    @contextlib.contextmanager
    def _reading(self, task_id: TaskId) -> Iterator[_Reader]:
        reader = _Reader()
        self._readers[task_id].add(reader)
        self._wanted.set()
        try:
            yield reader
        finally:
            self._readers[task_id].discard(reader)
            if not self._readers[task_id]:
                del self._readers[task_id]
            if not self._readers:
                asyncio.get_running_loop().call_later(LINGER_S, self._leave_off)

    def _leave_off(self) -> None:
        if not self._readers:
            self._wanted.clear()
            self._end_feed()

    def _end_feed(self) -> None:
        until, self._until = self._until, None
        if until is not None:
            until.reschedule(asyncio.get_running_loop().time())

    async def _look(self) -> None:
        """After a reconnect: is it still the same stream?"""
        try:
            same = (await self._info()).created == self._created
        except Unavailable:
            same = False
        if not same:
            self._end_feed()

    async def _catch_up(self, task_id: TaskId, row: "Row", hear: Hear, reader: _Reader) -> None:
        try:
            more = True
            while more:
                found, more = await following(self._connection, LIVE, _subject(task_id), row.seen)
                for each in found:
                    await _tell(Arrived(each.subject, each.sequence, each.data), row, hear)
        except Unavailable:
            await asyncio.sleep(jittered(AGAIN_AFTER_S))
            reader.fall_behind()

    async def _resume(self, task_id: TaskId, row: "Row") -> None:
        """Stand behind the chunk that was seen last, if it is still there."""
        try:
            end = (await self._info()).state.last_seq
        except Unavailable:
            end = 0
        if end < row.seen:
            row.restart()
            return
        found = await peek(self._connection, LIVE, _subject(task_id), row.seen)
        place = None if found is None or found.sequence != row.seen else _read(found.data)
        if place is not None:
            row.stand(place)

    async def _info(self) -> _Info:
        """Which stream it is, and its end; Unavailable while it is not there: then it will begin anew."""
        try:
            data = await self._connection.api(f"STREAM.INFO.{LIVE}")
        except BrokerRefused as refused:
            raise Unavailable(f"the live output is not there: {refused}") from refused
        return msgspec.json.decode(data, type=_Info)


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
        """The chunk, after a gap if there is one before it; nothing, if it cannot be read."""
        place = _read(arrived.data)
        if place is None:
            self.seen = arrived.sequence
            return []
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


async def _tell(arrived: Arrived, row: Row, hear: Hear) -> None:
    if arrived.sequence > row.seen:
        for word in row.take(arrived):
            await hear(word)


def _task_of(arrived: Arrived) -> TaskId:
    return TaskId(arrived.subject.rpartition(".")[2])


def _subject(task_id: TaskId) -> str:
    return live_subject("*", task_id)
