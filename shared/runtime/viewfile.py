"""The SQLite file of a view: opened or begun again, written in one transaction, deleted when it is broken."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_META = (
    "CREATE TABLE IF NOT EXISTS _view (name TEXT PRIMARY KEY, log TEXT NOT NULL, position INTEGER NOT NULL)"
)
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY: Final = 0xFF  # of an extended error code
_log = logging.getLogger(__name__)

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Statement:
    """One SQL statement for many rows."""

    sql: str
    rows: Sequence[tuple[Any, ...]]


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file is no view any more, and trying again will not help. A full disk is another matter."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    if code & _PRIMARY in _BROKEN or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    return str(error).startswith("no such table")  # all were made when it was opened: it was emptied


class ViewFile:
    """One file with a connection that writes and one that reads; each is used in one thread only."""

    def __init__(self, path: Path, name: str, schema: Sequence[str]) -> None:
        self._path = path
        self._name = name
        self._schema = schema
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    def open(self, identity: str, last_sequence: int) -> int:
        """Open it to be written, or begin it again; the sequence that it has reached."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        position = self._stored_position(identity)
        if position is not None and position > last_sequence:
            _log.warning("view %s stands at %d, its log at %d", self._name, position, last_sequence)
            position = None
        if position is not None:
            try:
                self._prepare(identity)
            except sqlite3.DatabaseError as error:
                if not is_broken(error):
                    raise
                _log.warning("view %s cannot be opened (%s)", self._name, error)
            else:
                return position
        self.delete()
        self._prepare(identity)
        return 0

    def write(self, rows: Callable[[Read], Sequence[Statement]], upto: int) -> None:
        """Store rows and the sequence that they reach, both or neither."""
        assert self._writer is not None
        writer = self._writer
        with writer:
            for statement in rows(lambda sql, values: writer.execute(sql, values).fetchall()):
                writer.executemany(statement.sql, statement.rows)
            writer.execute("UPDATE _view SET position = ?", (upto,))

    def read(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader.execute(sql, parameters).fetchall()

    def close_reader(self) -> None:
        """Read no more, or begin again."""
        reader, self._reader = self._reader, None
        _close(reader)

    def close_writer(self) -> None:
        """Write no more, or begin again."""
        writer, self._writer = self._writer, None
        _close(writer)

    def delete(self) -> None:
        """Remove it with all that SQLite keeps beside it."""
        self.close_writer()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _prepare(self, identity: str) -> None:
        self._writer = self._connect()
        with self._writer:
            self._writer.execute(_META)
            for statement in self._schema:
                self._writer.execute(statement)
            self._writer.execute("INSERT OR IGNORE INTO _view VALUES ('view', ?, 0)", (identity,))

    def _stored_position(self, identity: str) -> int | None:
        """Where the file stands in this log; None when it is none, broken, or of another log."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(self._path)) as file:
                row = file.execute("SELECT log, position FROM _view").fetchone()
        except sqlite3.DatabaseError as error:
            _log.warning("view %s cannot be read (%s): rebuilding", self._name, error)
            return None
        if row is None or row[0] != identity:
            return None
        return int(row[1])

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):  # a broken file has nothing to be kept
            connection.close()
