"""Pools and their decisions as rows, and questions to them. Pure values."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from services.orchestrator.facts import PoolEvent
from services.orchestrator.pool_keeping import Kept, fold
from shared.contracts.orchestrator.pools import (
    ListPoolDecisions,
    ListPools,
    PoolDecision,
    PoolScaled,
)
from shared.contracts.words import Page
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
FACTS_MAX: Final = 10  # of one commit; it has one

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS pools (name TEXT PRIMARY KEY, kept BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS decisions (
        name TEXT NOT NULL, place INTEGER NOT NULL, doc BLOB NOT NULL, PRIMARY KEY (name, place)
    ) WITHOUT ROWID""",
)
_KEEP: Final = "INSERT OR REPLACE INTO pools (name, kept) VALUES (?, ?)"
_KEEP_DECISION: Final = "INSERT OR REPLACE INTO decisions (name, place, doc) VALUES (?, ?, ?)"

# All that memory needs of them is in the table: their pasts may be long.
SELECT_ALIVE: Final = {"pool": "SELECT name FROM pools WHERE 0"}
SELECT_BEGIN: Final = "SELECT kept FROM pools"
SELECT_ONE: Final = "SELECT kept FROM pools WHERE name = ?"

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""

_keeps = msgspec.json.Decoder(Kept)
_decisions = msgspec.json.Decoder(PoolDecision)


def rows(batch: Sequence[Recorded[PoolEvent]], read: Read) -> list[Sql]:
    """The statements that take a batch in. Taken in twice, it changes the same."""
    kept: dict[str, Kept | None] = {}
    decisions: list[tuple[Any, ...]] = []
    for commit in batch:
        name = commit.aggregate_id
        if name not in kept:
            found = read(SELECT_ONE, (name,))
            kept[name] = kept_of(found[0]) if found else None
        kept[name] = fold(kept[name], commit)
        for number, fact in enumerate(commit.facts):
            if isinstance(fact, PoolScaled):
                doc = encode(_decision(fact, commit))
                decisions.append((name, commit.sequence * FACTS_MAX + number, doc))
    keep = [(name, encode(each)) for name, each in kept.items() if each is not None]
    return [(_KEEP_DECISION, decisions), (_KEEP, keep)]


def _decision(fact: PoolScaled, commit: Recorded[PoolEvent]) -> PoolDecision:
    return PoolDecision(
        decision=fact.decision,
        before=fact.before,
        after=fact.after,
        code=fact.code,
        reason=fact.reason,
        at=commit.at,
        readings=fact.readings,
        bots=fact.bots,
        sequence=commit.sequence,
    )


def kept_of(row: tuple[Any, ...]) -> Kept:
    """What a row of SELECT_ONE or of a list keeps."""
    return _keeps.decode(row[-1])


def select_pools(query: ListPools) -> tuple[str, tuple[Any, ...]]:
    """Pools by name after the cursor, one more than asked for."""
    sql = "SELECT name, kept FROM pools WHERE name > ? ORDER BY name LIMIT ?"
    return sql, (query.cursor or "", _limit(query.limit) + 1)


def select_decisions(query: ListPoolDecisions) -> tuple[str, tuple[Any, ...]]:
    """A pool's newest decisions before the cursor, one more than asked for."""
    sql = "SELECT place, doc FROM decisions WHERE name = ? AND place < ? ORDER BY place DESC LIMIT ?"
    return sql, (query.name, _before(query.cursor), _limit(query.limit) + 1)


def decisions_of(found: Sequence[tuple[Any, ...]], limit: int) -> Page[PoolDecision]:
    """A page of the rows that were found."""
    more = str(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=[_decisions.decode(doc) for _, doc in found[:limit]], next_cursor=more)


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
