"""The lists, on a real SQLite file: what is written, what is found, and what is alive."""

import sqlite3
import weakref
from datetime import timedelta
from typing import Any

import pytest

from services.messenger.commands import NoteSpread, OpenBroadcast
from services.messenger.decider import BROADCAST, MESSAGE
from services.messenger.tables import (
    SCHEMA,
    SELECT_ALIVE,
    SELECT_BROADCAST,
    SELECT_PARTIES,
    SELECT_SPREAD,
    SELECT_STATES,
    SELECT_UNREAD,
    SELECT_WAITING,
    Rows,
    page_of,
    select_after,
    select_conversation,
    select_inbox,
    select_messages,
    summary_of,
)
from shared.contracts.gateway import KeyCreated, KeyRevoked
from shared.contracts.messenger.commands import MarkRead, ReadMessage, ReturnMessage, TakeMessage
from shared.contracts.messenger.queries import (
    AwaitConversation,
    GetConversation,
    GetInbox,
    ListMessages,
    MessageDoc,
)
from shared.contracts.orchestrator.facts import BotLaunched, BotRetired, BotSpec
from shared.contracts.words import BotId, KeyId, MessageId, Party, Priority
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded
from tests.services.messenger.builders import ANN, BETA, broadcast, post, send
from tests.services.messenger.world import CAUSE
from tests.support.scenario import NOON

TO_BETA = Party(BETA)


class Office:
    """Decides, and writes each commit into the file, one transaction each."""

    def __init__(self) -> None:
        self.file = sqlite3.connect(":memory:")
        weakref.finalize(self, self.file.close)
        for statement in SCHEMA:
            self.file.execute(statement)
        self.rows = Rows(remembered_max=2)
        self.sequence = 0
        self.states: dict[str, Any] = {}

    def decide(self, wish: Any) -> Recorded[Any]:
        decider: Any = BROADCAST if wish.aggregate == "broadcast" else MESSAGE
        state = self.states.get(wish.key, decider.initial)
        facts = decider.decide(state, wish, NOON)
        assert facts
        commit = self.commit(wish.aggregate, wish.key, *facts)
        self.states[wish.key] = decider.fold(state, facts, commit.sequence, NOON)
        return commit

    def commit(self, aggregate: str, aggregate_id: str, *facts: Any) -> Recorded[Any]:
        self.sequence += 1
        commit = Recorded[Any](
            facts=facts,
            commit_id=str(self.sequence),
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            sequence=self.sequence,
            at=NOON + timedelta(seconds=self.sequence),
            cause=CAUSE,
        )
        self.write([commit])
        return commit

    def write(self, batch: list[Recorded[Any]]) -> None:
        with self.file:
            for sql, values in self.rows(batch, self.read):
                self.file.executemany(sql, values)

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.file.execute(sql, values).fetchall()

    def ids(self, select: tuple[str, tuple[Any, ...]], limit: int = 50) -> list[str]:
        return [doc.id for doc in self.page(select, limit)]

    def page(self, select: tuple[str, tuple[Any, ...]], limit: int = 50) -> list[MessageDoc]:
        return page_of([(row[0], row[1]) for row in self.read(*select)], limit).items

    def plan(self, select: tuple[str, tuple[Any, ...]]) -> str:
        return " | ".join(row[3] for row in self.read(f"EXPLAIN QUERY PLAN {select[0]}", select[1]))


@pytest.fixture
def office() -> Office:
    return Office()


def take(message_id: str) -> TakeMessage:
    return TakeMessage(message_id=MessageId(message_id), bot_id=BETA, delivery=1)


def read(message_id: str) -> ReadMessage:
    return ReadMessage(message_id=MessageId(message_id), bot_id=BETA, delivery=1)


def fail(message_id: str) -> ReturnMessage:
    return ReturnMessage(
        message_id=MessageId(message_id), bot_id=BETA, delivery=1, code="x", reason="x", retryable=False
    )


def test_an_inbox_is_newest_first_and_can_be_narrowed(office: Office) -> None:
    office.decide(send("m1", priority=Priority.P0))
    office.decide(send("m2"))
    office.decide(send("m3", priority=Priority.P0))
    office.decide(send("m4", recipient="alpha"))
    office.decide(read("m1"))
    office.decide(take("m3"))
    assert office.ids(select_inbox(GetInbox(party=TO_BETA))) == ["m3", "m2", "m1"]
    assert office.ids(select_inbox(GetInbox(party=TO_BETA, priority=Priority.P0))) == ["m3", "m1"]
    assert office.ids(select_inbox(GetInbox(party=TO_BETA, state="read"))) == ["m1"]
    assert office.ids(select_inbox(GetInbox(party=TO_BETA, unread=True))) == ["m3", "m2"]
    assert dict(office.read(SELECT_UNREAD, (BETA,))) == {"pending": 1, "delivered": 1}


def test_pages_follow_each_other_without_gap_or_repeat(office: Office) -> None:
    for number in range(7):
        office.decide(send(f"m{number}"))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        found = office.read(*select_inbox(GetInbox(party=TO_BETA, limit=3, cursor=cursor)))
        page = page_of([(row[0], row[1]) for row in found], 3)
        seen += [doc.id for doc in page.items]
        cursor = page.next_cursor
    assert seen == [f"m{number}" for number in reversed(range(7))]
    assert cursor is None


def test_a_conversation_is_the_same_from_both_ends(office: Office) -> None:
    office.decide(post("m1"))
    office.decide(post("m2", bot_id=BETA, recipient="alpha"))
    office.decide(send("m3"))
    one, other = Party("alpha"), TO_BETA
    for query in (GetConversation(one=one, other=other), GetConversation(one=other, other=one)):
        assert office.ids(select_conversation(query)) == ["m2", "m1"]
    after = AwaitConversation(one=one, other=other, after=0, wait_s=0, limit=1)
    assert office.ids(select_after(after), 1) == ["m1"]
    assert office.ids(select_after(AwaitConversation(one=one, other=other, after=1, wait_s=0))) == ["m2"]


def test_a_party_has_what_it_sent_and_what_it_got(office: Office) -> None:
    office.decide(send("m1"))
    office.decide(post("m2", bot_id=BETA, recipient=ANN))
    office.decide(post("m3", recipient=ANN))
    office.decide(send("m4", sender=TO_BETA, recipient=TO_BETA))
    assert office.ids(select_messages(ListMessages(party=TO_BETA))) == ["m4", "m2", "m1"]
    assert office.ids(select_messages(ListMessages(party=TO_BETA, sender=TO_BETA))) == ["m4", "m2"]
    assert office.ids(select_messages(ListMessages(party=TO_BETA, state="delivered"))) == ["m2"]
    assert office.ids(select_messages(ListMessages(sender=ANN))) == ["m1"]
    assert office.ids(select_messages(ListMessages(state="pending"))) == ["m4", "m1"]


def test_messages_are_counted_by_state_and_what_waits_by_priority(office: Office) -> None:
    office.decide(send("m1", priority=Priority.P0))
    office.decide(send("m2"))
    office.decide(send("m3"))
    office.decide(read("m3"))
    office.decide(take("m2"))
    office.decide(MarkRead(message_id=MessageId("m2"), reader=ANN))
    assert dict(office.read(SELECT_STATES)) == {"pending": 1, "read": 2}
    assert office.read(SELECT_WAITING) == [("P0", 1, 1)]


def test_a_batch_that_could_not_be_written_counts_once_when_it_is_written(office: Office) -> None:
    sent = office.decide(send("m1"))
    office.rows.forget()
    facts = MESSAGE.decide(office.states["m1"], read("m1"), NOON)
    commit = Recorded[Any](
        facts=tuple(facts),
        commit_id="2",
        aggregate="message",
        aggregate_id="m1",
        sequence=sent.sequence + 1,
        at=NOON,
        cause=CAUSE,
    )
    office.rows([commit], office.read)  # and then the disk was full
    office.rows.forget()
    office.write([commit])
    assert dict(office.read(SELECT_STATES)) == {"read": 1}


def test_what_is_alive_is_what_a_bot_may_still_get(office: Office) -> None:
    office.decide(send("waits"))
    office.decide(send("done"))
    office.decide(read("done"))
    office.decide(send("failed"))
    office.decide(fail("failed"))
    office.decide(send("unread"))
    office.decide(take("unread"))
    office.decide(send("to-a-person", recipient=ANN))
    alive = {row[0] for row in office.read(SELECT_ALIVE["message"])}
    assert alive == {"waits", "failed", "unread"}


def test_bots_and_keys_are_known_as_long_as_they_are_there(office: Office) -> None:
    spec = BotSpec(engine="echo")
    for name in ("alpha", "beta"):
        office.commit("bot", name, BotLaunched(bot_id=BotId(name), spec=spec, generation=1))
    office.commit("bot", "beta")  # something of it that we do not hear
    office.commit("bot", "alpha", BotRetired(bot_id=BotId("alpha"), generation=1))
    for name in ("ann", "bob"):
        key = KeyCreated(key_id=KeyId(name), name=name, kind="api", prefix="hive", secret_hash="", scopes=())
        office.commit("key", name, key)
    office.commit("key", "bob", KeyRevoked(key_id=KeyId("bob"), reason="asked"))
    assert [row[0] for row in office.read(SELECT_PARTIES)] == ["bot", "key"]


def test_a_broadcast_is_alive_until_it_is_spread_and_sums_up_its_messages(office: Office) -> None:
    bots = (BETA, BotId("gamma"), BotId("delta"))
    office.decide(OpenBroadcast(broadcast_id="b1", wish=broadcast(), recipients=bots, selection="all"))
    office.decide(send("m1", broadcast="b1"))
    office.decide(send("m2", broadcast="b1", recipient="gamma"))
    office.decide(read("m1"))
    assert office.read(SELECT_ALIVE["broadcast"]) == [("b1",)]
    summary = summary_of(office.read(SELECT_BROADCAST, ("b1",))[0], dict(office.read(SELECT_SPREAD, ("b1",))))
    assert (summary.recipients, summary.missing, summary.states) == (3, 1, {"pending": 1, "read": 1})

    office.decide(NoteSpread(broadcast_id="b1", refused={BotId("delta"): "inbox_full"}))
    assert office.read(SELECT_ALIVE["broadcast"]) == []
    summary = summary_of(office.read(SELECT_BROADCAST, ("b1",))[0], dict(office.read(SELECT_SPREAD, ("b1",))))
    assert (summary.missing, summary.refused) == (0, {"delta": "inbox_full"})


def test_no_list_is_found_by_looking_at_everything(office: Office) -> None:
    selects = [
        select_inbox(GetInbox(party=TO_BETA)),
        select_inbox(GetInbox(party=TO_BETA, unread=True)),
        select_inbox(GetInbox(party=TO_BETA, priority=Priority.P0)),
        select_conversation(GetConversation(one=ANN, other=TO_BETA)),
        select_messages(ListMessages(party=ANN)),
        select_messages(ListMessages(state="failed")),
        select_messages(ListMessages(broadcast="b1")),
        select_after(AwaitConversation(one=ANN, other=TO_BETA, after=0, wait_s=0)),
        (SELECT_ALIVE["message"], ()),
        (SELECT_WAITING, ()),
        (SELECT_UNREAD, (BETA,)),
    ]
    for select in selects:
        plan = office.plan(select)
        assert "INDEX messages_" in plan, (select[0], plan)


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_has_a_limit(limit: int) -> None:
    with pytest.raises(Rejected, match="bad_limit"):
        select_inbox(GetInbox(party=TO_BETA, limit=limit))


def test_a_cursor_is_one_that_was_given() -> None:
    with pytest.raises(Rejected, match="bad_cursor"):
        select_inbox(GetInbox(party=TO_BETA, cursor="x"))
