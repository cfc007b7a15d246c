"""Schedules and their receipts as rows, and questions to them. Pure values."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from services.scheduler.decider.schedule_state import Removed
from services.scheduler.schedule_facts import SUBMITTER, ScheduleEvent
from services.scheduler.schedule_keeping import Kept, fold, is_end, opened
from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.scheduler.schedules import (
    ListReceipts,
    ListSchedules,
    Receipt,
    ScheduleTaskRefused,
    ScheduleTicked,
    ScheduleTickQueued,
    ScheduleTicksMissed,
)
from shared.contracts.words import Page
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
FACTS_MAX: Final = 1_000  # of one commit; a catch-up has some hundred

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS schedules (
        name TEXT PRIMARY KEY, removed INTEGER NOT NULL, kept BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS receipts (
        name TEXT NOT NULL, place INTEGER NOT NULL, due_at TEXT NOT NULL, queued INTEGER NOT NULL, task TEXT,
        doc BLOB NOT NULL, PRIMARY KEY (name, place)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS receipts_queued ON receipts (name, due_at) WHERE queued = 1",
    "CREATE INDEX IF NOT EXISTS receipts_by_task ON receipts (task) WHERE task IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS opens (
        task TEXT PRIMARY KEY, name TEXT NOT NULL, submitted INTEGER NOT NULL, doc BLOB NOT NULL
    ) WITHOUT ROWID""",
)
_KEEP: Final = (
    "INSERT INTO schedules (name, removed, kept) VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET removed = excluded.removed, kept = excluded.kept"
)
_DEQUEUE: Final = "DELETE FROM receipts WHERE name = ? AND due_at = ? AND queued = 1"
_KEEP_RECEIPT: Final = (
    "INSERT OR REPLACE INTO receipts (name, place, due_at, queued, task, doc) VALUES (?, ?, ?, ?, ?, ?)"
)
_REFUSE: Final = "UPDATE receipts SET doc = json_patch(doc, ?) WHERE name = ? AND task = ?"
_OPEN: Final = "INSERT OR IGNORE INTO opens (task, name, submitted, doc) VALUES (?, ?, 0, ?)"
_SUBMITTED: Final = "UPDATE opens SET submitted = 1 WHERE task = ?"
_CLOSE: Final = "DELETE FROM opens WHERE task = ?"

SELECT_ALIVE: Final = {
    # All that memory needs of them is in the table: their pasts may be long.
    "schedule": "SELECT name FROM schedules WHERE 0",
    "task": "SELECT task FROM opens WHERE 0",
}
SELECT_BEGIN: Final = (
    "SELECT 'schedule', kept, 0 FROM schedules WHERE removed = 0 "
    "UNION ALL SELECT 'open', doc, submitted FROM opens"
)
SELECT_ONE: Final = "SELECT kept FROM schedules WHERE name = ? AND removed = 0"
SELECT_EVER: Final = "SELECT 1 FROM schedules WHERE name = ?"

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""

_keeps = msgspec.json.Decoder(Kept)
_receipts = msgspec.json.Decoder(Receipt)


def rows(batch: Sequence[Recorded[Any]], read: Read) -> list[Sql]:
    """The statements that take a batch in, in the order of the log. Taken in twice, it changes the same."""
    kept: dict[str, Kept | None] = {}
    statements: list[Sql] = []
    for commit in batch:
        if commit.aggregate == "task":
            statements += _of_task(commit)
            continue
        name = commit.aggregate_id
        before = kept[name] if name in kept else _stored(name, read)
        kept[name] = after = fold(before, commit)
        if after is not before:
            statements += _of_schedule(before, commit)
    keep = [
        (name, isinstance(each.state, Removed), encode(each))
        for name, each in kept.items()
        if each is not None
    ]
    return [*_joined(statements), (_KEEP, keep)]


def _of_task(commit: Recorded[Any]) -> Iterator[Sql]:
    for fact in commit.facts:
        if isinstance(fact, TaskSubmitted) and fact.submitter.startswith(SUBMITTER):
            yield _SUBMITTED, [(commit.aggregate_id,)]
        elif is_end(fact):
            yield _CLOSE, [(commit.aggregate_id,)]


def _of_schedule(before: Kept | None, commit: Recorded[ScheduleEvent]) -> Iterator[Sql]:
    for each in opened(before, commit):
        yield _OPEN, [(each.task_id, each.name, encode(each))]
    for number, fact in enumerate(commit.facts):
        if isinstance(fact, ScheduleTaskRefused):
            told = encode({"outcome": "refused", "reason": f"{fact.code}: {fact.detail}"})
            yield _REFUSE, [(told.decode(), fact.name, fact.task_id)]
            yield _CLOSE, [(fact.task_id,)]
            continue
        receipt = _receipt(fact, commit)
        if receipt is None:
            continue
        due_at, queued = receipt.due_at.isoformat(), receipt.outcome == "queued"
        if not queued and not receipt.manual:
            yield _DEQUEUE, [(receipt.name, due_at)]
        place = commit.sequence * FACTS_MAX + number
        yield (
            _KEEP_RECEIPT,
            [(receipt.name, place, due_at, queued, receipt.task_id, encode(receipt).decode())],
        )


def _receipt(fact: ScheduleEvent, commit: Recorded[ScheduleEvent]) -> Receipt | None:
    match fact:
        case ScheduleTicked():
            return Receipt(
                name=fact.name,
                sequence=commit.sequence,
                due_at=fact.due_at,
                decided_at=commit.at,
                outcome=fact.outcome,
                reason=fact.reason,
                late_s=fact.late_s,
                task_id=fact.task_id,
                manual=fact.manual,
            )
        case ScheduleTickQueued():
            return Receipt(
                name=fact.name,
                sequence=commit.sequence,
                due_at=fact.due_at,
                decided_at=commit.at,
                outcome="queued",
                reason="waits for the end of the earlier task",
            )
        case ScheduleTicksMissed():
            more = f", and more before {fact.until:%Y-%m-%dT%H:%M:%SZ}" if fact.more else ""
            return Receipt(
                name=fact.name,
                sequence=commit.sequence,
                due_at=fact.until,
                decided_at=commit.at,
                outcome="skipped",
                reason=f"{fact.reason}{more}",
                count=fact.count,
                first_due_at=fact.first_due_at,
            )
        case _:
            return None


def _joined(statements: Sequence[Sql]) -> Iterator[Sql]:
    """Neighbours that are the same statement, as one: their order stays."""
    last: Sql | None = None
    for sql, values in statements:
        if last is not None and last[0] == sql:
            last[1].extend(values)
            continue
        if last is not None:
            yield last
        last = (sql, list(values))
    if last is not None:
        yield last


def _stored(name: str, read: Read) -> Kept | None:
    found = read("SELECT kept FROM schedules WHERE name = ?", (name,))
    return _keeps.decode(found[0][0]) if found else None


def kept_of(row: tuple[Any, ...]) -> Kept:
    """What a row of SELECT_ONE or of a list keeps."""
    return _keeps.decode(row[-1])


def select_schedules(query: ListSchedules) -> tuple[str, tuple[Any, ...]]:
    """Schedules by name after the cursor, one more than asked for."""
    sql = "SELECT name, kept FROM schedules WHERE removed = 0 AND name > ? ORDER BY name LIMIT ?"
    return sql, (query.cursor or "", _limit(query.limit) + 1)


def select_receipts(query: ListReceipts) -> tuple[str, tuple[Any, ...]]:
    """A schedule's newest receipts before the cursor, one more than asked for."""
    sql = "SELECT place, doc FROM receipts WHERE name = ? AND place < ? ORDER BY place DESC LIMIT ?"
    return sql, (query.name, _before(query.cursor), _limit(query.limit) + 1)


def receipts_of(found: Sequence[tuple[Any, ...]], limit: int) -> Page[Receipt]:
    """A page of the rows that were found."""
    more = str(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=[_receipts.decode(doc) for _, doc in found[:limit]], next_cursor=more)


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
