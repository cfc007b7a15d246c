"""The lists that grow, all tasks and every bot's attempts, as rows and questions to them. Pure values."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from services.orchestrator.facts import TaskEvent
from services.orchestrator.projection import fold_task
from shared.contracts.orchestrator.queries import GetBotHistory, HistoryEntry, ListTasks, TaskDoc
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX, Page, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
PAGE_BYTES_MAX: Final = BROKER_PAYLOAD_BYTES_MAX * 9 // 10
HISTORY_OUTPUT_CHARS_MAX: Final = 2_000

REMEMBERED_MAX: Final = 4_096

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS tasks (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, type TEXT NOT NULL,
        priority TEXT NOT NULL, bot TEXT, doc BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state)",
    "CREATE INDEX IF NOT EXISTS tasks_by_type ON tasks (type)",
    "CREATE INDEX IF NOT EXISTS tasks_by_priority ON tasks (priority)",
    "CREATE INDEX IF NOT EXISTS tasks_by_bot ON tasks (bot)",
    """CREATE TABLE IF NOT EXISTS attempts (
        bot TEXT NOT NULL, token INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (bot, token)
    ) WITHOUT ROWID""",
)
_KEEP_TASK: Final = (
    "INSERT INTO tasks (sequence, id, state, type, priority, bot, doc) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (sequence) DO UPDATE SET state = excluded.state, bot = excluded.bot, doc = excluded.doc"
)
_KEEP_ATTEMPT: Final = (
    "INSERT INTO attempts (bot, token, entry) VALUES (?, ?, ?) "
    "ON CONFLICT (bot, token) DO UPDATE SET entry = excluded.entry"
)

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""

_docs = msgspec.json.Decoder(TaskDoc)
_entries = msgspec.json.Decoder(HistoryEntry)


class Kept(NamedTuple):
    """A task's row: where it began in the log, and its document."""

    sequence: int
    doc: TaskDoc | None


class Rows:
    """What batches of commits change. Taken in twice, a commit changes the same.

    The documents of open tasks are remembered, so that their next commit needs no look into the file.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._max = remembered_max
        self._open: OrderedDict[TaskId, Kept] = OrderedDict()

    def __call__(self, batch: Sequence[Recorded[TaskEvent]], read: Read) -> list[Sql]:
        """The statements that take a batch in."""
        changed: dict[TaskId, Kept] = {}
        attempts: dict[tuple[str, int], TaskDoc] = {}
        for commit in batch:
            task_id = TaskId(commit.aggregate_id)
            kept = changed.get(task_id) or self._open.get(task_id) or _stored(task_id, commit, read)
            doc = fold_task(kept.doc, commit)
            changed[task_id] = Kept(kept.sequence, doc)
            if doc is not None and doc.attempts:
                newest = doc.attempts[-1]
                attempts[newest.bot, newest.token] = doc
        self._remember(changed)
        tasks = [
            (sequence, doc.id, doc.state, doc.type.value, doc.priority.value, doc.bot, encode(doc))
            for sequence, doc in changed.values()
            if doc is not None
        ]
        entries = [(bot, token, encode(_entry(doc, token))) for (bot, token), doc in attempts.items()]
        return [(_KEEP_TASK, tasks), (_KEEP_ATTEMPT, entries)]

    def _remember(self, changed: Mapping[TaskId, Kept]) -> None:
        for task_id, kept in changed.items():
            if kept.doc is None or kept.doc.ended_at is not None:
                self._open.pop(task_id, None)
            else:
                self._open[task_id] = kept
                self._open.move_to_end(task_id)
        while len(self._open) > self._max:
            self._open.popitem(last=False)


def _stored(task_id: TaskId, commit: Recorded[TaskEvent], read: Read) -> Kept:
    found = read("SELECT sequence, doc FROM tasks WHERE id = ?", (task_id,))
    return Kept(found[0][0], _docs.decode(found[0][1])) if found else Kept(commit.sequence, None)


def _entry(doc: TaskDoc, token: int) -> HistoryEntry:
    attempt = next(each for each in doc.attempts if each.token == token)
    told = attempt.end in ("completed", "failed") and doc.output is not None
    return HistoryEntry(
        task_id=doc.id,
        type=doc.type,
        content=doc.content,
        attempt=attempt,
        output_text=doc.output.text[:HISTORY_OUTPUT_CHARS_MAX] if told and doc.output is not None else None,
    )


def select_tasks(query: ListTasks) -> tuple[str, tuple[Any, ...]]:
    """The newest tasks that fit, one more than asked for, to know whether more follow."""
    wanted = {"state": query.state, "type": query.type, "priority": query.priority, "bot": query.bot}
    given = {column: str(value) for column, value in wanted.items() if value is not None}
    conditions = " AND ".join(["sequence < ?", *(f"{column} = ?" for column in given)])
    sql = f"SELECT sequence, doc FROM tasks WHERE {conditions} ORDER BY sequence DESC LIMIT ?"  # noqa: S608 - columns are ours
    return sql, (_before(query.cursor), *given.values(), _limit(query.limit) + 1)


def select_history(query: GetBotHistory) -> tuple[str, tuple[Any, ...]]:
    """The newest attempts of a bot, one more than asked for."""
    sql = "SELECT token, entry FROM attempts WHERE bot = ? AND token < ? ORDER BY token DESC LIMIT ?"
    return sql, (query.bot_id, _before(query.cursor), _limit(query.limit) + 1)


def tasks_page(found: Sequence[tuple[int, bytes]], limit: int) -> Page[TaskDoc]:
    """A page of the rows that select_tasks found."""
    limit = _fitting(found, limit)
    return Page(items=[_docs.decode(doc) for _, doc in found[:limit]], next_cursor=_next(found, limit))


def history_page(found: Sequence[tuple[int, bytes]], limit: int) -> Page[HistoryEntry]:
    """A page of the rows that select_history found."""
    limit = _fitting(found, limit)
    return Page(items=[_entries.decode(entry) for _, entry in found[:limit]], next_cursor=_next(found, limit))


def _fitting(found: Sequence[tuple[int, bytes]], limit: int) -> int:
    """How many of the rows one answer can carry: as many as asked for, or fewer when they are long."""
    sizes = accumulate(len(row) + 1 for _, row in found[: _limit(limit)])
    return max(1, sum(size <= PAGE_BYTES_MAX for size in sizes))


def _next(found: Sequence[tuple[int, bytes]], limit: int) -> str | None:
    return str(found[limit - 1][0]) if len(found) > limit else None


def _before(cursor: str | None) -> int:
    if cursor is None:
        return 2**63 - 1
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < len(str(2**63))):
        raise Rejected("bad_cursor", "`cursor` must be the `next_cursor` of an earlier page")
    return int(cursor)


def _limit(limit: int) -> int:
    if not 1 <= limit <= LIMIT_MAX:
        raise Rejected("bad_limit", f"`limit` must be 1 to {LIMIT_MAX}")
    return limit
