"""SQLite views: a batch of facts and the sequence it reaches are one transaction, so each fact counts once.

A view is disposable. It remembers which log it was built from; one that is of another log, or ahead of its
log, is deleted and built again.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from shared.kernel.errors import Unavailable
from shared.kernel.messages import Recorded

T = TypeVar("T")

# A row that changes several times meanwhile is written once; who reads does not wait for it.
WRITE_EVERY_S: Final = 1.0
AGAIN_AFTER_S: Final = 1.0
READ_WITHIN_S: Final = 3.0  # a reader waits so long for what was taken in to be written
_META = (
    "CREATE TABLE IF NOT EXISTS _view (name TEXT PRIMARY KEY, log TEXT NOT NULL, position INTEGER NOT NULL)"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statement:
    """One SQL statement for many rows."""

    sql: str
    rows: Sequence[tuple[Any, ...]]


Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]


class Rows(Protocol):
    """What a batch of commits means as rows. `read` sees what is stored so far."""

    def __call__(self, batch: Sequence[Recorded[Any]], read: Read) -> Sequence[Statement]:
        """The statements that take the batch in."""
        ...


class Table:
    """One SQLite file that a service reads its lists from. It is written behind, but never read behind."""

    def __init__(
        self, path: Path, *, version: int, schema: Sequence[str], aggregates: Collection[str], rows: Rows
    ) -> None:
        self.name = path.stem
        self.aggregates = frozenset(aggregates)
        self._path = path.with_name(f"{path.stem}-v{version}.sqlite")
        self._schema = schema
        self._rows = rows
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_thread = ThreadPoolExecutor(1, f"{path.stem}-write")
        self._read_thread = ThreadPoolExecutor(1, f"{path.stem}-read")
        self._waiting: list[Recorded[Any]] = []
        self._due = asyncio.Event()
        self._asked = asyncio.Event()
        self._written = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._broken_off = False
        self._taken = 0
        self._position = 0
        self._identity = ""
        self._closed = False
        self.problem = ""

    @property
    def position(self) -> int:
        """The last sequence taken in."""
        return self._taken

    async def open(self, identity: str, last_sequence: int) -> None:
        """Open the file, or begin it again when it belongs to another log or is ahead of this one."""
        self._identity = identity
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._position = await self._in_write_thread(lambda: self._open_at(last_sequence))
        self._taken = self._position

    async def take(self, batch: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in commits in log order; they are written within WRITE_EVERY_S."""
        self._waiting.extend(batch)
        self._taken = upto
        self._due.set()

    async def run(self) -> None:
        """Write what was taken in, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.write()
            except sqlite3.OperationalError as error:
                self.problem = f"view {self.name} cannot be written: {error}"
                _log.error(self.problem)
                self._due.set()
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                self.problem = ""
                await self._until_next()

    async def _until_next(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_EVERY_S):
                await self._asked.wait()
        self._asked.clear()

    async def write(self) -> None:
        """Write what is waiting now; what could not be written waits on."""
        async with self._writing:
            if self._closed or self._broken_off:
                return
            batch, self._waiting, upto = self._waiting, [], self._taken
            # Broken off in here, nobody knows what was written: only the file, when it is opened again.
            self._broken_off = True
            try:
                await self._in_write_thread(lambda: self._write(batch, upto))
            except sqlite3.OperationalError:
                self._waiting = batch + self._waiting
                self._broken_off = False
                raise
            self._broken_off = False
            self._position = upto
        async with self._written:
            self._written.notify_all()

    async def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query, as of everything taken in until now; Unavailable while that cannot be written."""
        wanted = self._taken
        if self._position < wanted:
            self._asked.set()
            try:
                async with asyncio.timeout(READ_WITHIN_S), self._written:
                    await self._written.wait_for(lambda: self._position >= wanted)
            except TimeoutError as error:
                raise Unavailable(self.problem or f"view {self.name} is being written") from error
        return await asyncio.get_running_loop().run_in_executor(
            self._read_thread, lambda: self._open_reader().execute(sql, parameters).fetchall()
        )

    async def close(self) -> None:
        """Write what waits, and close the file."""
        if self._writer is not None:
            with contextlib.suppress(sqlite3.OperationalError):  # it is read from the log again
                await self.write()
            self._closed = True
            await self._in_write_thread(self._writer.close)
        if self._reader is not None:
            await asyncio.get_running_loop().run_in_executor(self._read_thread, self._reader.close)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    async def _in_write_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._write_thread, work)

    def _open_at(self, last_sequence: int) -> int:
        position = self._stored_position()
        if position is None or position > last_sequence:
            if position is not None:
                _log.warning(
                    "view %s stands at %d, its log at %d: rebuilding", self.name, position, last_sequence
                )
            self._delete()
            position = 0
        self._writer = self._connect()
        with self._writer:
            self._writer.execute(_META)
            for statement in self._schema:
                self._writer.execute(statement)
            self._writer.execute("INSERT OR IGNORE INTO _view VALUES ('view', ?, 0)", (self._identity,))
        return position

    def _stored_position(self) -> int | None:
        """Where the file stands in this log; None when it is none, broken, or of another log."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(self._path)) as file:
                row = file.execute("SELECT log, position FROM _view").fetchone()
        except sqlite3.DatabaseError as error:
            _log.warning("view %s cannot be read (%s): rebuilding", self.name, error)
            return None
        if row is None or row[0] != self._identity:
            return None
        return int(row[1])

    def _write(self, batch: Sequence[Recorded[Any]], upto: int) -> None:
        assert self._writer is not None
        writer = self._writer
        with writer:
            for statement in self._rows(batch, lambda sql, values: writer.execute(sql, values).fetchall()):
                writer.executemany(statement.sql, statement.rows)
            writer.execute("UPDATE _view SET position = ?", (upto,))

    def _open_reader(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
