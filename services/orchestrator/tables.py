"""The lists that grow, all tasks and every bot's attempts, as rows and questions to them. Pure values."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from services.orchestrator.facts import TaskEvent
from services.orchestrator.projection import fold_task
from shared.contracts.orchestrator.queries import GetBotHistory, HistoryEntry, ListTasks, Page, TaskDoc
from shared.contracts.words import TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
HISTORY_OUTPUT_CHARS_MAX: Final = 2_000

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS tasks (
        id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, state TEXT NOT NULL, type TEXT NOT NULL,
        priority TEXT NOT NULL, bot TEXT, doc BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS tasks_newest ON tasks (sequence)",
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, sequence)",
    "CREATE INDEX IF NOT EXISTS tasks_by_type ON tasks (type, sequence)",
    "CREATE INDEX IF NOT EXISTS tasks_by_priority ON tasks (priority, sequence)",
    "CREATE INDEX IF NOT EXISTS tasks_by_bot ON tasks (bot, sequence)",
    """CREATE TABLE IF NOT EXISTS attempts (
        bot TEXT NOT NULL, token INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (bot, token)
    ) WITHOUT ROWID""",
)
_KEEP_TASK: Final = (
    "INSERT INTO tasks (id, sequence, state, type, priority, bot, doc) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, bot = excluded.bot, doc = excluded.doc"
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


def rows(batch: Sequence[Recorded[TaskEvent]], read: Read) -> list[Sql]:
    """What a batch of commits changes. Taken in twice, it changes the same."""
    docs: dict[TaskId, TaskDoc | None] = {}
    began: dict[TaskId, int] = {}
    attempts: dict[tuple[str, int], TaskDoc] = {}
    for commit in batch:
        task_id = TaskId(commit.aggregate_id)
        if task_id not in docs:
            found = read("SELECT doc FROM tasks WHERE id = ?", (task_id,))
            docs[task_id] = _docs.decode(found[0][0]) if found else None
            began[task_id] = commit.sequence
        doc = docs[task_id] = fold_task(docs[task_id], commit)
        if doc is not None and doc.attempts:
            newest = doc.attempts[-1]
            attempts[newest.bot, newest.token] = doc
    kept = [
        (doc.id, began[doc.id], doc.state, doc.type.value, doc.priority.value, doc.bot, encode(doc))
        for doc in docs.values()
        if doc is not None
    ]
    entries = [(bot, token, encode(_entry(doc, token))) for (bot, token), doc in attempts.items()]
    return [(_KEEP_TASK, kept), (_KEEP_ATTEMPT, entries)]


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
    limit = _limit(limit)
    return Page(items=[_docs.decode(doc) for _, doc in found[:limit]], next_cursor=_next(found, limit))


def history_page(found: Sequence[tuple[int, bytes]], limit: int) -> Page[HistoryEntry]:
    """A page of the rows that select_history found."""
    limit = _limit(limit)
    return Page(items=[_entries.decode(entry) for _, entry in found[:limit]], next_cursor=_next(found, limit))


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
