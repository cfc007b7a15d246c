"""The lists that grow, all messages and broadcasts, as rows and questions to them. Pure values."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from services.messenger.projection import UNREAD, fold_broadcast, fold_message
from shared.contracts.gateway import KeyRevoked
from shared.contracts.messenger.facts import BroadcastSpread, MessageSent
from shared.contracts.messenger.queries import (
    AwaitConversation,
    DeliverySummary,
    GetConversation,
    GetInbox,
    ListMessages,
    MessageDoc,
)
from shared.contracts.orchestrator.facts import BotRetired
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX, MessageId, Page, Party
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded

VERSION: Final = 1
"""Grows when the rows below change: another version is another file, built from the log."""

LIMIT_MAX: Final = 200
PAGE_BYTES_MAX: Final = BROKER_PAYLOAD_BYTES_MAX * 9 // 10
REMEMBERED_MAX: Final = 4_096

_ALIVE: Final = "state IN ('pending', 'delivered', 'failed') AND substr(recipient, 1, 1) <> '@'"
"""What memory must hold: messages to bots that are not read, and those that may be put back."""

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS messages (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, priority TEXT NOT NULL,
        sender TEXT NOT NULL, recipient TEXT NOT NULL, pair TEXT NOT NULL, broadcast TEXT, doc BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS messages_to ON messages (recipient)",
    "CREATE INDEX IF NOT EXISTS messages_to_by_state ON messages (recipient, state)",
    "CREATE INDEX IF NOT EXISTS messages_to_by_priority ON messages (recipient, priority)",
    "CREATE INDEX IF NOT EXISTS messages_from ON messages (sender)",
    "CREATE INDEX IF NOT EXISTS messages_between ON messages (pair)",
    "CREATE INDEX IF NOT EXISTS messages_by_state ON messages (state)",
    "CREATE INDEX IF NOT EXISTS messages_waiting ON messages (priority) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS messages_of ON messages (broadcast, state) WHERE broadcast IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS counts (state TEXT PRIMARY KEY, messages INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TRIGGER IF NOT EXISTS count_new AFTER INSERT ON messages BEGIN
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET messages = messages + 1;
    END""",
    """CREATE TRIGGER IF NOT EXISTS count_changed AFTER UPDATE OF state ON messages
    WHEN old.state <> new.state BEGIN
        UPDATE counts SET messages = messages - 1 WHERE state = old.state;
        INSERT INTO counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET messages = messages + 1;
    END""",
    f"CREATE INDEX IF NOT EXISTS messages_alive ON messages (id) WHERE {_ALIVE}",
    """CREATE TABLE IF NOT EXISTS broadcasts (
        id TEXT PRIMARY KEY, spread INTEGER NOT NULL, doc BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS broadcasts_alive ON broadcasts (id) WHERE spread = 0",
    """CREATE TABLE IF NOT EXISTS parties (
        aggregate TEXT NOT NULL, id TEXT NOT NULL, fact BLOB NOT NULL, PRIMARY KEY (aggregate, id)
    ) WITHOUT ROWID""",
)
_KEEP_MESSAGE: Final = (
    "INSERT INTO messages (sequence, id, state, priority, sender, recipient, pair, broadcast, doc) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (sequence) DO UPDATE SET state = excluded.state, doc = excluded.doc"
)
_KEEP_BROADCAST: Final = (
    "INSERT INTO broadcasts (id, spread, doc) VALUES (?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET spread = excluded.spread, doc = excluded.doc"
)
_KEEP_PARTY: Final = (
    "INSERT INTO parties (aggregate, id, fact) VALUES (?, ?, ?) "
    "ON CONFLICT (aggregate, id) DO UPDATE SET fact = excluded.fact"
)
_FORGET_PARTY: Final = "DELETE FROM parties WHERE aggregate = ? AND id = ?"
_NEWEST: Final = "ORDER BY sequence DESC LIMIT ?"

SELECT_ALIVE: Final = {
    "message": f"SELECT id FROM messages WHERE {_ALIVE}",  # noqa: S608 - it is ours
    "broadcast": "SELECT id FROM broadcasts WHERE spread = 0",
    # Of these, what counts is in `parties`: their pasts may be long.
    "bot": "SELECT id FROM parties WHERE 0",
    "key": "SELECT id FROM parties WHERE 0",
}
SELECT_PARTIES: Final = "SELECT aggregate, fact FROM parties"
SELECT_STATES: Final = "SELECT state, messages FROM counts WHERE messages > 0"
SELECT_WAITING: Final = (
    "SELECT priority, count(*), min(sequence) FROM messages WHERE state = 'pending' GROUP BY priority"
)
SELECT_ONE: Final = "SELECT doc FROM messages WHERE sequence = ?"
SELECT_UNREAD: Final = (
    "SELECT state, count(*) FROM messages "
    "WHERE recipient = ? AND state IN ('pending', 'delivered') GROUP BY state"
)
SELECT_BROADCAST: Final = "SELECT doc FROM broadcasts WHERE id = ?"
SELECT_SPREAD: Final = "SELECT state, count(*) FROM messages WHERE broadcast = ? GROUP BY state"

Read = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
Sql = tuple[str, list[tuple[Any, ...]]]
"""A statement, and the rows it is for."""

_docs = msgspec.json.Decoder(MessageDoc)
_summaries = msgspec.json.Decoder(DeliverySummary)


def pair_of(one: Party, other: Party) -> str:
    """The same for both directions. No party's name holds a line's end."""
    return f"{one}\n{other}" if one <= other else f"{other}\n{one}"


class Rows:
    """What batches of commits change. Taken in twice, a commit changes the same.

    The documents of unread messages are remembered, so that their next commit needs no look into the file.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._max = remembered_max
        self._open: OrderedDict[MessageId, MessageDoc] = OrderedDict()

    def __call__(self, batch: Sequence[Recorded[Any]], read: Read) -> list[Sql]:
        """The statements that take a batch in."""
        messages: dict[MessageId, MessageDoc] = {}
        broadcasts: dict[str, tuple[DeliverySummary, bool]] = {}
        parties: dict[tuple[str, str], bytes | None] = {}
        for commit in batch:
            match commit.aggregate:
                case "message":
                    message_id = MessageId(commit.aggregate_id)
                    known = messages.get(message_id) or self._open.get(message_id)
                    doc = fold_message(known or _stored(commit, read), commit)
                    if doc is not None:
                        messages[message_id] = doc
                case "broadcast":
                    before = broadcasts.get(commit.aggregate_id) or _stored_broadcast(commit, read)
                    broadcasts[commit.aggregate_id] = _broadcast(before, commit)
                case _:
                    for fact in commit.facts:
                        gone = isinstance(fact, BotRetired | KeyRevoked)
                        parties[commit.aggregate, commit.aggregate_id] = None if gone else encode(fact)
        self._remember(messages)
        kept = [(*key, fact) for key, fact in parties.items() if fact is not None]
        return [
            (_KEEP_MESSAGE, [_row(doc) for doc in messages.values()]),
            (_KEEP_BROADCAST, [(key, spread, encode(doc)) for key, (doc, spread) in broadcasts.items()]),
            (_KEEP_PARTY, kept),
            (_FORGET_PARTY, [key for key, fact in parties.items() if fact is None]),
        ]

    def forget(self) -> None:
        """What was returned last was not stored."""
        self._open.clear()

    def _remember(self, changed: Mapping[MessageId, MessageDoc]) -> None:
        for message_id, doc in changed.items():
            if doc.state in UNREAD:
                self._open[message_id] = doc
                self._open.move_to_end(message_id)
            else:
                self._open.pop(message_id, None)
        while len(self._open) > self._max:
            self._open.popitem(last=False)


def _row(doc: MessageDoc) -> tuple[Any, ...]:
    return (
        doc.sequence,
        doc.id,
        doc.state,
        doc.priority.value,
        doc.sender,
        doc.recipient,
        pair_of(doc.sender, doc.recipient),
        doc.broadcast,
        encode(doc),
    )


def _stored(commit: Recorded[Any], read: Read) -> MessageDoc | None:
    if isinstance(commit.facts[0], MessageSent):
        return None  # it begins here: no look is needed
    found = read("SELECT doc FROM messages WHERE id = ?", (commit.aggregate_id,))
    return _docs.decode(found[0][0]) if found else None


def _stored_broadcast(commit: Recorded[Any], read: Read) -> tuple[DeliverySummary, bool] | None:
    found = read("SELECT doc, spread FROM broadcasts WHERE id = ?", (commit.aggregate_id,))
    return (_summaries.decode(found[0][0]), bool(found[0][1])) if found else None


def _broadcast(
    before: tuple[DeliverySummary, bool] | None, commit: Recorded[Any]
) -> tuple[DeliverySummary, bool]:
    """A broadcast after a commit, and whether all its messages exist, or were refused."""
    summary, spread = (None, False) if before is None else before
    after = fold_broadcast(summary, commit)
    assert after is not None, commit
    return after, spread or isinstance(commit.facts[-1], BroadcastSpread)


def select_messages(query: ListMessages) -> tuple[str, tuple[Any, ...]]:
    """The newest messages that fit, one more than asked for, to know whether more follow."""
    wanted = {
        "sender": query.sender,
        "recipient": query.recipient,
        "state": query.state,
        "priority": query.priority,
        "broadcast": query.broadcast,
    }
    given = {column: str(value) for column, value in wanted.items() if value is not None}
    before, most = _before(query.cursor), _limit(query.limit) + 1
    if query.party is None:
        return _select(given), (before, *given.values(), most)
    # Two short looks into two indices, where one condition with OR would sort all that it finds.
    sent, got = _select(["sender", *given]), _select(["recipient", *given])
    values = (before, query.party, *given.values(), most)
    sql = f"SELECT * FROM ({sent}) UNION SELECT * FROM ({got}) {_NEWEST}"  # noqa: S608 - columns are ours
    return sql, (*values, *values, most)


def select_inbox(query: GetInbox) -> tuple[str, tuple[Any, ...]]:
    """The newest messages to a party, one more than asked for."""
    given = {"recipient": query.party, "state": query.state, "priority": query.priority}
    there = {column: str(value) for column, value in given.items() if value is not None}
    sql = _select(there, " AND state IN ('pending', 'delivered')" if query.unread else "")
    return sql, (_before(query.cursor), *there.values(), _limit(query.limit) + 1)


def select_conversation(query: GetConversation) -> tuple[str, tuple[Any, ...]]:
    """The newest messages between two parties, one more than asked for."""
    values = (_before(query.cursor), pair_of(query.one, query.other), _limit(query.limit) + 1)
    return _select(["pair"]), values


def select_after(query: AwaitConversation) -> tuple[str, tuple[Any, ...]]:
    """The messages between two parties after a sequence, oldest first, one more than asked for."""
    sql = "SELECT sequence, doc FROM messages WHERE pair = ? AND sequence > ? ORDER BY sequence LIMIT ?"
    return sql, (pair_of(query.one, query.other), min(query.after, 2**63 - 1), _limit(query.limit) + 1)


def page_of(found: Sequence[tuple[int, bytes]], limit: int) -> Page[MessageDoc]:
    """A page of the rows that were found."""
    fitting = _fitting(found, limit)
    more = str(found[fitting - 1][0]) if len(found) > fitting else None
    return Page(items=[_docs.decode(doc) for _, doc in found[:fitting]], next_cursor=more)


def page_of_docs(docs: Sequence[MessageDoc], limit: int) -> Page[MessageDoc]:
    """The same of documents that were never rows."""
    return page_of([(doc.sequence, encode(doc)) for doc in docs], limit)


def doc_of(row: tuple[Any, ...]) -> MessageDoc:
    """The document in a row of SELECT_ONE."""
    return _docs.decode(row[0])


def summary_of(row: tuple[Any, ...], states: Mapping[str, int]) -> DeliverySummary:
    """A row of SELECT_BROADCAST, with what became of its messages."""
    summary = _summaries.decode(row[0])
    missing = summary.recipients - sum(states.values()) - len(summary.refused)
    return msgspec.structs.replace(summary, states=dict(states), missing=max(0, missing))


def _select(given: Collection[str], more: str = "") -> str:
    conditions = " AND ".join(["sequence < ?", *(f"{column} = ?" for column in given)])
    return f"SELECT sequence, doc FROM messages WHERE {conditions}{more} {_NEWEST}"  # noqa: S608 - columns are ours


def _fitting(found: Sequence[tuple[int, bytes]], limit: int) -> int:
    """How many of the rows one answer can carry: as many as asked for, or fewer when they are long."""
    sizes = accumulate(len(row) + 1 for _, row in found[: _limit(limit)])
    return max(1, sum(size <= PAGE_BYTES_MAX for size in sizes))


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
