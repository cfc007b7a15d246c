"""SQLite views: a batch of facts and the sequence it reaches are one transaction, so each fact counts once.

A view is disposable. It remembers which log it was built from; one that is of another log, ahead of its log,
or broken, is deleted and built again.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from shared.kernel.errors import Unavailable
from shared.kernel.messages import Recorded
from shared.runtime.viewfile import Read, Statement, ViewFile, is_broken

__all__ = ["Read", "Rows", "Statement", "Table"]

T = TypeVar("T")

# A row that changes several times meanwhile is written once; who reads does not wait for it.
WRITE_EVERY_S: Final = 1.0
AGAIN_AFTER_S: Final = 1.0
READ_WITHIN_S: Final = 3.0  # a reader waits so long for what was taken in to be written
WAITING_MAX: Final = 20_000  # commits taken in and not written, about 40 MB; the log keeps the rest
ANY_SEQUENCE: Final = 2**63 - 1
_log = logging.getLogger(__name__)


class Rows(Protocol):
    """What a batch of commits means as rows. `read` sees what is stored so far."""

    def __call__(self, batch: Sequence[Recorded[Any]], read: Read) -> Sequence[Statement]:
        """The statements that take the batch in."""
        ...


class Table:
    """One SQLite file that a service reads its lists from. It is written behind, but never read behind.

    It is fed with the other views, until it stops: because its file broke, or because it could not be written
    for so long that too much waits. Then it begins again, is fed `apart`, and joins the others when it is
    where they are.
    `forget` is called when what `rows` returned was not stored.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: int,
        schema: Sequence[str],
        aggregates: Collection[str],
        rows: Rows,
        forget: Callable[[], None] = lambda: None,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.name = path.stem
        self.aggregates = frozenset(aggregates)
        self.apart = False
        self._file = ViewFile(path.with_name(f"{path.stem}-v{version}.sqlite"), path.stem, schema)
        self._rows = rows
        self._forget = forget
        self._waiting_max = waiting_max
        self._write_thread = ThreadPoolExecutor(1, f"{path.stem}-write")
        self._read_thread = ThreadPoolExecutor(1, f"{path.stem}-read")
        self._waiting: list[Recorded[Any]] = []
        self._due = asyncio.Event()
        self._asked = asyncio.Event()
        self._stopped = asyncio.Event()
        self._moved = asyncio.Event()
        self._writing = asyncio.Lock()
        self._broken_off = False
        self._taken = 0
        self._position = 0
        self._identity = ""
        self._closed = False
        self._unwritten = ""
        self._rebuilding = ""

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        return self._taken

    @property
    def problem(self) -> str:
        """What is wrong with it, in words; nothing if nothing is."""
        return self._rebuilding or self._unwritten

    async def open(self, identity: str, last_sequence: int) -> None:
        """Open the file, or begin it again when it belongs to another log or is ahead of this one."""
        self._identity = identity
        self._position = await self._in(
            self._write_thread, lambda: self._file.open(self._identity, last_sequence)
        )
        self._taken = self._position

    def take(self, batch: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in commits in log order; they are written within WRITE_EVERY_S."""
        if self._stopped.is_set():
            return
        self._waiting.extend(batch)
        self._taken = upto
        self._due.set()
        if 2 * len(self._waiting) > self._waiting_max:
            self._asked.set()
        if len(self._waiting) > self._waiting_max and not self.apart:
            _log.warning("view %s cannot keep up: it goes on from the log, by itself", self.name)
            self._stop()

    async def room(self) -> None:
        """Wait until more may be taken in, or it stopped."""
        while 2 * len(self._waiting) > self._waiting_max and not self._stopped.is_set():
            await self._moved.wait()

    async def run(self) -> None:
        """Write what was taken in, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.write()
            except sqlite3.DatabaseError as error:
                if self._stopped.is_set():
                    continue
                if not isinstance(error, sqlite3.OperationalError):
                    raise
                self._unwritten = f"view {self.name} cannot be written: {error}"
                _log.error(self._unwritten)
                self._due.set()
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                await self._until_next()

    async def write(self) -> None:
        """Write what is waiting now; what could not be written waits on."""
        async with self._writing:
            if self._closed or self._broken_off or self._stopped.is_set():
                return
            batch, self._waiting, upto = self._waiting, [], self._taken
            self._tell()
            # Broken off in here, nobody knows what was written: only the file, when it is opened again.
            self._broken_off = True
            try:
                await self._in(
                    self._write_thread,
                    lambda: self._file.write(lambda read: self._rows(batch, read), upto),
                )
            except sqlite3.DatabaseError as error:
                self._forget()
                self._waiting = batch + self._waiting
                self._broken_off = False
                self._check(error)
                raise
            self._broken_off = False
            self._unwritten = ""
            self._position = upto
        self._tell()

    async def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query, as of everything taken in until now; Unavailable while that cannot be written."""
        wanted = self._taken
        if self._position < wanted:
            self._asked.set()
            try:
                async with asyncio.timeout(READ_WITHIN_S):
                    while self._position < wanted and not self._behind():
                        await self._moved.wait()
            except TimeoutError as error:
                raise Unavailable(self.problem or f"view {self.name} is being written") from error
        if self._behind():
            raise Unavailable(self.problem or f"view {self.name} is catching up")
        try:
            return await self._in(self._read_thread, lambda: self._file.read(sql, parameters))
        except sqlite3.DatabaseError as error:
            self._check(error)
            if self._behind():
                raise Unavailable(self.problem) from error
            raise

    async def written(self) -> None:
        """Wait until everything taken in is written, however long that takes."""
        while self._position < self._taken or self._behind():
            self._asked.set()
            await self._moved.wait()

    # When it is fed apart.

    @property
    def is_stopped(self) -> bool:
        """Whether it takes nothing more in, until it begins again."""
        return self._stopped.is_set()

    async def stopped(self) -> None:
        """Wait until it takes nothing more in."""
        await self._stopped.wait()

    async def begin_again(self) -> None:
        """Go on from what the file holds; a broken one is deleted first."""
        async with self._writing:
            self._waiting.clear()
            self._forget()
            while self._rebuilding:
                try:
                    await self._in(self._read_thread, self._file.close_reader)
                    await self._in(self._write_thread, self._file.delete)
                    await self.open(self._identity, ANY_SEQUENCE)
                except (sqlite3.OperationalError, OSError) as error:
                    _log.error("view %s cannot be begun again: %s", self.name, error)
                    await asyncio.sleep(AGAIN_AFTER_S)
                else:
                    break
            self._taken = self._position
            self._stopped.clear()

    async def joined(self) -> None:
        """Wait until it is where the other views are."""
        while self.apart:
            await self._moved.wait()

    def join(self) -> None:
        """It is where the other views are, and is fed with them from now on."""
        self.apart = False
        self._rebuilding = ""
        self._tell()

    async def close(self) -> None:
        """Write what waits, and close the file."""
        with contextlib.suppress(sqlite3.DatabaseError):  # it is read from the log again
            await self.write()
        self._closed = True
        await self._in(self._write_thread, self._file.close_writer)
        await self._in(self._read_thread, self._file.close_reader)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    def _behind(self) -> bool:
        return self.apart or self._stopped.is_set()

    def _check(self, error: sqlite3.DatabaseError) -> None:
        if is_broken(error) and not self._stopped.is_set():
            self._rebuilding = f"view {self.name} was broken ({error}) and is built again from the log"
            _log.error(self._rebuilding)
            self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._waiting.clear()
        self._tell()

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _until_next(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_EVERY_S):
                await self._asked.wait()
        self._asked.clear()

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
