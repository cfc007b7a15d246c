"""What is known, and what is kept to ask how it could have been, as rows. Pure values."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from services.scheduler.fleet import Member
from services.scheduler.ledger import Ledger
from services.scheduler.projection import Books, Changes, Pending
from services.scheduler.records import Trial
from services.scheduler.sketch import Sketch
from shared.contracts.config import Config
from shared.contracts.words import BotId, TaskId, TaskType
from shared.kernel.codec import encode
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

TRIALS_MAX: Final = 200_000
"""The newest attempts that can be asked about; some 60 MB of file."""

PRUNE_AFTER: Final = 10_000
ASKED_MAX: Final = 20_000
"""Of these, so many are looked at for one question: the newest."""

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS ledgers (
        type TEXT NOT NULL, bot TEXT NOT NULL, sequence INTEGER NOT NULL, doc BLOB NOT NULL,
        PRIMARY KEY (type, bot)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS books (
        type TEXT PRIMARY KEY, sequence INTEGER NOT NULL, doc BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS bots (name TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS trials (
        token INTEGER PRIMARY KEY, type TEXT NOT NULL, at REAL NOT NULL, doc BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS trials_of ON trials (type, token)",
)

ALIVE: Final = {
    # What is counted of these stands in rows: their pasts may be long.
    "task": "SELECT id FROM tasks WHERE 0",
    "bot": "SELECT name FROM bots WHERE 0",
    "performance": "SELECT name FROM bots WHERE 0",
}
KNOWN: Final = (
    "SELECT 'ledger', type, bot, sequence, doc FROM ledgers "
    "UNION ALL SELECT 'book', type, '', sequence, doc FROM books "
    "UNION ALL SELECT 'task', id, '', 0, doc FROM tasks "
    "UNION ALL SELECT 'bot', name, '', 0, doc FROM bots"
)
"""All that is known."""

_KEEP_LEDGER: Final = "INSERT OR REPLACE INTO ledgers (type, bot, sequence, doc) VALUES (?, ?, ?, ?)"
_KEEP_BOOK: Final = "INSERT OR REPLACE INTO books (type, sequence, doc) VALUES (?, ?, ?)"
_KEEP_TASK: Final = "INSERT OR REPLACE INTO tasks (id, doc) VALUES (?, ?)"
_KEEP_BOT: Final = "INSERT OR REPLACE INTO bots (name, doc) VALUES (?, ?)"
_KEEP_TRIAL: Final = "INSERT OR REPLACE INTO trials (token, type, at, doc) VALUES (?, ?, ?, ?)"
_PRUNE: Final = (
    "DELETE FROM trials WHERE token <= (SELECT token FROM trials ORDER BY token DESC LIMIT 1 OFFSET ?)"
)

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""


class _Book(msgspec.Struct, array_like=True):
    runs: list[float]
    costs: list[float]


_ledgers = msgspec.json.Decoder(Ledger)
_books = msgspec.json.Decoder(_Book)
_tasks = msgspec.json.Decoder(Pending)
_members = msgspec.json.Decoder(Member)
_trials = msgspec.json.Decoder(Trial)


def restore(books: Books, rows: Sequence[tuple[Any, ...]]) -> None:
    """Know what the rows of KNOWN say: the bots in the order in which they were heard of."""
    for what, key, bot, sequence, doc in sorted(rows, key=lambda row: int(row[3])):
        match what:
            case "ledger":
                books.book(TaskType(key)).ledgers[BotId(bot)] = _ledgers.decode(doc)
            case "book":
                book, kept = books.book(TaskType(key)), _books.decode(doc)
                book.runs, book.costs, book.sequence = Sketch(kept.runs), Sketch(kept.costs), sequence
            case "task":
                books.tasks[TaskId(key)] = _tasks.decode(doc)
            case _:
                books.fleet[BotId(key)] = _members.decode(doc)


class Rows:
    """What batches of commits change. It knows what the file knows, and reads that once."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._books: Books | None = None
        self._kept = PRUNE_AFTER

    def forget(self) -> None:
        """What was returned last was not stored: only the file knows now."""
        self._books = None

    def __call__(self, batch: Sequence[Recorded[Any]], read: Read) -> list[Sql]:
        """The statements that take a batch in."""
        books = self._books
        if books is None:
            books = Books(self._config)
            restore(books, read(KNOWN, ()))
        self._books = None  # until the batch is taken in whole
        changes = Changes()
        for commit in batch:
            books.take(commit, changes)
        self._books = books
        self._kept += len(changes.trials)
        return [*_statements(books, changes), *self._pruned()]

    def _pruned(self) -> list[Sql]:
        if self._kept < PRUNE_AFTER:
            return []
        self._kept = 0
        return [(_PRUNE, [(TRIALS_MAX,)])]


def _statements(books: Books, changes: Changes) -> list[Sql]:
    kept_ledgers, lost_ledgers = [], []
    for kind, bot in changes.ledgers:
        ledger = books.book(kind).ledgers.get(bot)
        if ledger is None:
            lost_ledgers.append((kind.value, bot))
        else:
            kept_ledgers.append((kind.value, bot, ledger.sequence, encode(ledger)))
    kept_books = [
        (kind.value, book.sequence, encode(_Book(book.runs.values(), book.costs.values())))
        for kind in changes.types
        for book in (books.book(kind),)
    ]
    tasks, bots = books.tasks, books.fleet
    trials = [
        (token, kind.value, trial.record.at.timestamp(), encode(trial))
        for token, (kind, trial) in changes.trials.items()
    ]
    return [
        (_KEEP_LEDGER, kept_ledgers),
        ("DELETE FROM ledgers WHERE type = ? AND bot = ?", lost_ledgers),
        (_KEEP_BOOK, kept_books),
        (_KEEP_TASK, [(task, encode(tasks[task])) for task in changes.tasks if task in tasks]),
        ("DELETE FROM tasks WHERE id = ?", [(task,) for task in changes.tasks if task not in tasks]),
        (_KEEP_BOT, [(bot, encode(bots[bot])) for bot in changes.bots if bot in bots]),
        ("DELETE FROM bots WHERE name = ?", [(bot,) for bot in changes.bots if bot not in bots]),
        (_KEEP_TRIAL, trials),
    ]


def select_trials(since: datetime, kind: TaskType | None) -> tuple[str, tuple[Any, ...]]:
    """The newest attempts since then, of a type or of all."""
    given = () if kind is None else (kind.value,)
    where = "at >= ?" if kind is None else "at >= ? AND type = ?"
    sql = f"SELECT doc FROM trials WHERE {where} ORDER BY token DESC LIMIT ?"  # noqa: S608 - it is ours
    return sql, (since.timestamp(), *given, ASKED_MAX)


def trials_of(rows: Sequence[tuple[Any, ...]]) -> list[Trial]:
    """The attempts that select_trials found."""
    return [_trials.decode(row[0]) for row in rows]
