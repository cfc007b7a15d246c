"""The lists that grow, all tasks, all bots and their attempts, as rows and questions to them. Pure values."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from services.orchestrator.facts import BotCleared
from services.orchestrator.outcomes import Outcome, Outcomes, outcome_of, remember
from services.orchestrator.projection import fold_bot, fold_task
from services.orchestrator.told import ClearedBots, CountedTasks, KnownChild, KnownOutcomes, Told
from shared.contracts.orchestrator.facts import BotLaunched
from shared.contracts.orchestrator.queries import (
    BotDoc,
    GetBotHistory,
    HistoryEntry,
    ListBots,
    ListTasks,
    TaskDoc,
    Tree,
    TreeNode,
)
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX, BotId, Page, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 5
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
PAGE_BYTES_MAX: Final = BROKER_PAYLOAD_BYTES_MAX * 9 // 10
HISTORY_OUTPUT_CHARS_MAX: Final = 2_000
TREE_NODES_MAX: Final = 1_000
TREE_DEPTH_MAX: Final = 8
TREE_CONTENT_CHARS_MAX: Final = 200

REMEMBERED_MAX: Final = 4_096

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS tasks (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, type TEXT NOT NULL,
        priority TEXT NOT NULL, bot TEXT, parent TEXT, doc BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state)",
    "CREATE INDEX IF NOT EXISTS tasks_by_type ON tasks (type)",
    "CREATE INDEX IF NOT EXISTS tasks_by_priority ON tasks (priority)",
    "CREATE INDEX IF NOT EXISTS tasks_by_bot ON tasks (bot)",
    "CREATE INDEX IF NOT EXISTS tasks_by_parent ON tasks (parent) WHERE parent IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS attempts (
        bot TEXT NOT NULL, token INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (bot, token)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS bots (
        name TEXT PRIMARY KEY, pool TEXT NOT NULL, cleared INTEGER NOT NULL, doc BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS bots_by_cleared ON bots (cleared, name)",
    "CREATE TABLE IF NOT EXISTS outcomes (bot TEXT PRIMARY KEY, last BLOB NOT NULL) WITHOUT ROWID",
)
OPEN_STATES: Final = ("waiting", "queued", "retrying", "assigned", "running", "blocked")
ALIVE: Final = {
    "task": f"SELECT id FROM tasks WHERE state IN {OPEN_STATES}",  # noqa: S608 - the states are ours
    "bot": "SELECT name FROM bots WHERE cleared = 0",
}
"""What the board holds: by kind of aggregate, the query for the ids."""

TOTALS: Final = (
    f"SELECT 'task', state, COUNT(*) FROM tasks WHERE state NOT IN {OPEN_STATES} GROUP BY state "  # noqa: S608
    "UNION ALL SELECT 'bot', 'cleared', COUNT(*) FROM bots WHERE cleared = 1 "
    f"UNION ALL SELECT 'child', parent, id || ' ' || state FROM tasks WHERE state NOT IN {OPEN_STATES} "
    f"AND parent IN (SELECT id FROM tasks WHERE state IN {OPEN_STATES}) "
    "UNION ALL SELECT 'outcomes', bot, last FROM outcomes JOIN bots ON name = bot WHERE cleared = 0"
)
"""What the board counts of all others: kind, state, how many; and how each bot's last attempts ended."""

_KEEP_TASK: Final = (
    "INSERT INTO tasks (sequence, id, state, type, priority, bot, parent, doc) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (sequence) DO UPDATE SET state = excluded.state, bot = excluded.bot, doc = excluded.doc"
)
_KEEP_BOT: Final = "INSERT OR REPLACE INTO bots (name, pool, cleared, doc) VALUES (?, ?, ?, ?)"
_KEEP_OUTCOMES: Final = "INSERT OR REPLACE INTO outcomes (bot, last) VALUES (?, ?)"
_KEEP_ATTEMPT: Final = (
    "INSERT INTO attempts (bot, token, entry) VALUES (?, ?, ?) "
    "ON CONFLICT (bot, token) DO UPDATE SET entry = excluded.entry"
)

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""

_docs = msgspec.json.Decoder(TaskDoc)
_entries = msgspec.json.Decoder(HistoryEntry)
_bots = msgspec.json.Decoder(BotDoc)
_outcomes: msgspec.json.Decoder[Outcomes] = msgspec.json.Decoder(Outcomes)


class Kept(NamedTuple):
    """A task's row: where it began in the log, and its document."""

    sequence: int
    doc: TaskDoc | None


class KeptBot(NamedTuple):
    """A bot's row: its document, and whether it is retired and nothing of it is left."""

    doc: BotDoc | None
    cleared: bool


class Rows:
    """What batches of commits change. Taken in twice, a commit changes the same.

    The documents of open tasks, and how the last attempts of bots ended, are remembered, so that the next
    commit needs no look into the file.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._max = remembered_max
        self._open: OrderedDict[TaskId, Kept] = OrderedDict()
        self._outcomes: OrderedDict[BotId, Outcomes] = OrderedDict()

    def forget(self) -> None:
        """What was returned last was not stored: only the file knows now."""
        self._open.clear()
        self._outcomes.clear()

    def __call__(self, batch: Sequence[Recorded[Any]], read: Read) -> list[Sql]:
        """The statements that take a batch in."""
        changed: dict[TaskId, Kept] = {}
        attempts: dict[tuple[str, int], TaskDoc] = {}
        bots: dict[BotId, KeptBot] = {}
        outcomes: dict[BotId, Outcomes] = {}
        for commit in batch:
            if commit.aggregate == "bot":
                bot_id = BotId(commit.aggregate_id)
                bots[bot_id] = _bot_after(bots.get(bot_id) or _stored_bot(bot_id, read), commit)
                if any(isinstance(fact, BotLaunched) for fact in commit.facts):
                    outcomes[bot_id] = ()
                continue
            task_id = TaskId(commit.aggregate_id)
            kept = changed.get(task_id) or self._open.get(task_id) or _stored(task_id, commit, read)
            doc = fold_task(kept.doc, commit)
            changed[task_id] = Kept(kept.sequence, doc)
            for bot_id, news in _outcomes_of(commit):
                known = outcomes.get(bot_id)
                outcomes[bot_id] = remember(self._known(bot_id, read) if known is None else known, news)
            if doc is not None and doc.attempts:
                newest = doc.attempts[-1]
                attempts[newest.bot, newest.token] = doc
        self._remember(changed)
        self._remember_outcomes(outcomes)
        tasks = [
            (
                sequence,
                doc.id,
                doc.state,
                doc.type.value,
                doc.priority.value,
                doc.bot,
                doc.parent,
                encode(doc),
            )
            for sequence, doc in changed.values()
            if doc is not None
        ]
        entries = [(bot, token, encode(_entry(doc, token))) for (bot, token), doc in attempts.items()]
        rows = [
            (name, doc.spec.pool, cleared, encode(doc))
            for name, (doc, cleared) in bots.items()
            if doc is not None
        ]
        ends = [(bot_id, encode(last)) for bot_id, last in outcomes.items()]
        return [(_KEEP_TASK, tasks), (_KEEP_ATTEMPT, entries), (_KEEP_BOT, rows), (_KEEP_OUTCOMES, ends)]

    def _remember(self, changed: Mapping[TaskId, Kept]) -> None:
        for task_id, kept in changed.items():
            if kept.doc is None or kept.doc.ended_at is not None:
                self._open.pop(task_id, None)
            else:
                self._open[task_id] = kept
                self._open.move_to_end(task_id)
        while len(self._open) > self._max:
            self._open.popitem(last=False)

    def _known(self, bot_id: BotId, read: Read) -> Outcomes:
        remembered = self._outcomes.get(bot_id)
        if remembered is not None:
            return remembered
        found = read("SELECT last FROM outcomes WHERE bot = ?", (bot_id,))
        return _outcomes.decode(found[0][0]) if found else ()

    def _remember_outcomes(self, changed: Mapping[BotId, Outcomes]) -> None:
        for bot_id, last in changed.items():
            self._outcomes[bot_id] = last
            self._outcomes.move_to_end(bot_id)
        while len(self._outcomes) > self._max:
            self._outcomes.popitem(last=False)


def told(rows: Iterable[tuple[Any, ...]]) -> list[Told]:
    """What the rows of TOTALS say."""
    return [_told(*row) for row in rows]


def _told(kind: str, key: str, value: Any) -> Told:
    match kind:
        case "task":
            return CountedTasks(key, value)
        case "bot":
            return ClearedBots(value)
        case "child":
            child, how = value.split(" ")
            return KnownChild(TaskId(key), TaskId(child), how)
        case _:
            return KnownOutcomes(BotId(key), _outcomes.decode(value))


def _outcomes_of(commit: Recorded[Any]) -> list[tuple[BotId, Outcome]]:
    found = (outcome_of(fact, commit.sequence) for fact in commit.facts)
    return [each for each in found if each is not None]


def _stored(task_id: TaskId, commit: Recorded[Any], read: Read) -> Kept:
    found = read("SELECT sequence, doc FROM tasks WHERE id = ?", (task_id,))
    return Kept(found[0][0], _docs.decode(found[0][1])) if found else Kept(commit.sequence, None)


def _stored_bot(bot_id: BotId, read: Read) -> KeptBot:
    found = read("SELECT doc, cleared FROM bots WHERE name = ?", (bot_id,))
    return KeptBot(_bots.decode(found[0][0]), bool(found[0][1])) if found else KeptBot(None, cleared=False)


def _bot_after(kept: KeptBot, commit: Recorded[Any]) -> KeptBot:
    doc, cleared = kept
    if doc is not None and commit.sequence <= doc.version:
        return kept
    for fact in commit.facts:
        if isinstance(fact, BotLaunched | BotCleared):
            cleared = isinstance(fact, BotCleared)
    return KeptBot(fold_bot(doc, commit), cleared)


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


def select_tree(task_id: TaskId) -> tuple[str, tuple[Any, ...]]:
    """A task and all that descends from it, the shallow before the deep, one more than are shown."""
    sql = (
        "WITH RECURSIVE tree (id, depth) AS (SELECT ?, 0 UNION ALL SELECT tasks.id, tree.depth + 1 "
        "FROM tasks JOIN tree ON tasks.parent = tree.id WHERE tree.depth < ?) "
        "SELECT tree.depth, tasks.doc FROM tree JOIN tasks ON tasks.id = tree.id "
        "ORDER BY tree.depth, tasks.sequence LIMIT ?"
    )
    return sql, (task_id, TREE_DEPTH_MAX, TREE_NODES_MAX + 1)


def tree_of(task_id: TaskId, found: Sequence[tuple[int, bytes]]) -> Tree:
    """The rows that select_tree found, each after its parent, siblings in the order of spawning."""
    below: dict[TaskId | None, list[TreeNode]] = {}
    for depth, row in found[:TREE_NODES_MAX]:
        node = _node(depth, _docs.decode(row))
        below.setdefault(node.parent if depth else None, []).append(node)
    nodes: list[TreeNode] = []
    waiting = below.get(None, [])[::-1]
    while waiting:
        nodes.append(waiting.pop())
        waiting += below.get(nodes[-1].id, [])[::-1]
    return Tree(id=task_id, nodes=nodes, truncated=len(found) > TREE_NODES_MAX)


def _node(depth: int, doc: TaskDoc) -> TreeNode:
    return TreeNode(
        id=doc.id,
        parent=doc.parent,
        depth=depth,
        state=doc.state,
        type=doc.type,
        content=doc.content[:TREE_CONTENT_CHARS_MAX],
        submitted_at=doc.submitted_at,
        bot=doc.bot,
        ended_at=doc.ended_at,
    )


def select_history(query: GetBotHistory) -> tuple[str, tuple[Any, ...]]:
    """The newest attempts of a bot, one more than asked for."""
    sql = "SELECT token, entry FROM attempts WHERE bot = ? AND token < ? ORDER BY token DESC LIMIT ?"
    return sql, (query.bot_id, _before(query.cursor), _limit(query.limit) + 1)


def select_bot(bot_id: BotId) -> tuple[str, tuple[Any, ...]]:
    """One bot that memory does not hold."""
    return "SELECT doc FROM bots WHERE name = ? AND cleared = 1", (bot_id,)


def select_cleared(query: ListBots) -> tuple[str, tuple[Any, ...]]:
    """The first of those bots that memory does not hold, one more than asked for."""
    given = () if query.pool is None else (query.pool,)
    conditions = " AND ".join(["cleared = 1", "name > ?", *("pool = ?" for _ in given)])
    sql = f"SELECT doc FROM bots WHERE {conditions} ORDER BY name LIMIT ?"  # noqa: S608 - columns are ours
    return sql, (query.cursor or "", *given, query.limit + 1)


def bots_of(found: Sequence[tuple[Any, ...]]) -> list[BotDoc]:
    """The documents that select_bot or select_cleared found."""
    return [_bots.decode(row[0]) for row in found]


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
