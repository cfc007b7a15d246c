"""A person and a bot talk over a WebSocket, on a real server with a real client."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.gateway.access import COOKIE
from shared.contracts.messenger.queries import AwaitConversation
from shared.kernel.messages import Query
from shared.runtime import sockets, websocket
from shared.runtime.live import Gap, Piece
from tests.support.api import ApiHive
from tests.support.chat import Served, served

ALICE, BOB = "hive_alice-of-the-tests-0", "hive_bob-of-the-tests-000"
TALKS = ("messages:read", "messages:write")
ALPHA = "/v1/bots/alpha/ws"


@pytest.fixture
async def here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(sockets, "LOOK_EVERY_S", 0.05)
    hive = ApiHive()
    await hive.key()
    await hive.key(ALICE, scopes=TALKS, name="alice")
    async with hive.client() as client:
        for name in ("alpha", "beta"):
            assert (
                await client.post("/v1/bots?wait=0", json={"name": name, "engine": "echo"})
            ).status_code < 300
    async with served(hive) as made:
        yield made


async def test_who_comes_is_greeted_and_told_the_history_first(here: Served) -> None:
    await here.hive.messenger.say("@alice", "alpha", "one")
    await here.hive.messenger.say("alpha", "@alice", "two")
    await here.hive.messenger.say("alpha", "@bob", "not yours")
    await here.hive.messenger.say("beta", "@alice", "of another bot")
    async with here.open(ALPHA, ALICE) as alice:
        hello = await alice.next()
        assert hello == {"type": "hello", "bot": "alpha", "party": "@alice", "after": 0}
        assert await alice.texts(2) == ["one", "two"]
        await here.hive.messenger.say("alpha", "@alice", "three")
        said = await alice.next()
        assert (said["type"], said["message"]["content"]) == ("text", "three")
        assert said["sequence"] == said["message"]["sequence"]


async def test_what_is_sent_is_a_chat_message_and_comes_back_with_its_place(here: Served) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="git status", priority="P0")
        accepted = await alice.next("accepted")
        text = await alice.next("text")
    assert (accepted["ref"], accepted["id"]) == ("r1", text["message"]["id"])
    assert accepted["sequence"] == text["sequence"]
    message = here.hive.messenger.messages[accepted["id"]]
    assert (message.sender, message.recipient, message.kind, message.priority) == (
        "@alice",
        "alpha",
        "chat",
        "P0",
    )


async def test_the_same_ref_again_is_not_sent_twice(here: Served) -> None:
    ids, places = [], []
    for _ in range(2):
        async with here.open(ALPHA, ALICE) as alice:
            await alice.say(type="text", ref="r1", content="hello")
            accepted = await alice.next("accepted")
            ids.append(accepted["id"])
            places.append(accepted["sequence"])
            here.hive.messenger.become(accepted["id"], "delivered")
    assert ids[0] == ids[1]
    assert places == [here.hive.messenger.messages[ids[0]].sequence] * 2
    assert len(here.hive.messenger.messages) == 1
    async with here.open(ALPHA, ALICE) as alice, here.open("/v1/bots/beta/ws", ALICE) as other:
        await alice.say(type="text", ref="r1", content="something else")
        error = await alice.next("error")
        assert (error["code"], error["ref"]) == ("idempotency_key_reused", "r1")
        await other.say(type="text", ref="r1", content="hello")
        assert (await other.next("accepted"))["id"] != ids[0]


async def test_what_is_not_decided_yet_is_accepted_without_a_place(here: Served) -> None:
    here.hive.undecided = True
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="hello")
        assert "sequence" not in await alice.next("accepted")
        await here.hive.catch_up()
        text, accepted = sorted(
            [await alice.next("text", "accepted") for _ in range(2)],
            key=lambda frame: frame["type"] == "accepted",
        )
        assert text["message"]["content"] == "hello"
        assert (accepted["ref"], accepted["sequence"]) == ("r1", text["sequence"])


async def test_what_was_stored_and_is_refused_then_is_told(here: Served) -> None:
    here.hive.undecided = True
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="hello")
        assert "sequence" not in await alice.next("accepted")
        here.hive.messenger.bots.remove("alpha")
        await here.hive.catch_up()
        error = await alice.next("error")
    assert (error["code"], error["ref"]) == ("recipient_unknown", "r1")


async def test_who_comes_again_goes_on_behind_what_was_seen(here: Served) -> None:
    for number in range(50):
        await here.hive.messenger.say("alpha", "@alice", f"{number}")
    seen: list[str] = []
    after = 0
    while len(seen) < 50:
        async with here.open(f"{ALPHA}?after={after}", ALICE, max_queue=None) as alice:
            assert (await alice.next())["after"] == after
            for _ in range(7):
                if len(seen) < 50:
                    text = await alice.next("text")
                    seen.append(text["message"]["content"])
                    after = text["sequence"]
    assert seen == [f"{number}" for number in range(50)]


async def test_a_messenger_that_is_away_for_a_while_costs_nothing(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messenger.api.chat.AGAIN_AFTER_S", 0.01)
    monkeypatch.setattr("services.messenger.api.chat.WAIT_AT_ONCE_S", 0.02)
    monkeypatch.setattr("services.messenger.api.chat.WAIT_WHILE_ACTIVE_S", 0.02)
    async with here.open(ALPHA, ALICE) as alice:
        await alice.next("hello")
        here.hive.broker_away = True
        await alice.say(type="text", ref="r1", content="hello")
        error = await alice.next("error")
        assert (error["code"], error["ref"], error["retry_after_s"]) == ("unavailable", "r1", 1)
        here.hive.broker_away = False
        await alice.say(type="text", ref="r1", content="hello")
        await alice.next("accepted")
        assert await alice.texts(1) == ["hello"]


async def test_a_question_that_a_dying_messenger_left_unanswered_is_asked_again(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messenger.api.chat.TOLD_WITHIN_S", 0.05)
    answer, lost = here.hive.messenger.answer, asyncio.Event()

    async def die(query: Query[Any]) -> Any:
        if isinstance(query, AwaitConversation) and not lost.is_set():
            lost.set()
            await asyncio.Event().wait()
        return await answer(query)

    monkeypatch.setattr(here.hive.messenger, "answer", die)
    async with here.open(ALPHA, ALICE) as alice:
        await lost.wait()
        await alice.say(type="text", ref="r1", content="hello")
        assert await alice.texts(1) == ["hello"]


async def test_an_ack_marks_what_the_bot_said_up_to_there_as_read(here: Served) -> None:
    said = [await here.hive.messenger.say("alpha", "@alice", f"{number}") for number in range(3)]
    await here.hive.messenger.say("beta", "@alice", "of another bot")
    async with here.open(ALPHA, ALICE) as alice:
        await alice.texts(3)
        await alice.say(type="ack", sequence=said[1].sequence)
        assert await alice.next() == {"type": "read", "sequence": said[1].sequence, "messages": 2}
        await alice.say(type="ack", sequence=10**17)
        assert await alice.next() == {"type": "read", "sequence": said[2].sequence, "messages": 1}
    states = {message.content: message.state for message in here.hive.messenger.messages.values()}
    assert states == {"0": "read", "1": "read", "2": "read", "of another bot": "delivered"}


async def test_a_running_turn_is_shown_as_it_writes_until_its_answer(here: Served) -> None:
    hive = here.hive
    hive.live.words = [
        Piece(5, b'{"task_id":"t","token":1,"index":0,"text":"com","channel":"out"}'),
        Gap(after=5, before=9, missing=2),
        Piece(9, b'{"task_id":"t","token":1,"index":3,"text":"ing"}'),
    ]
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="hello")
        question = (await alice.next("text"))["message"]["id"]
        first, gap, second = [await alice.next("live", "gap") for _ in range(3)]
        said = {"sequence": 5, "index": 0, "text": "com", "channel": "out"}
        assert first == {"type": "live", "message_id": question, **said}
        assert gap == {"type": "gap", "message_id": question, "after": 5, "before": 9, "missing": 2}
        assert second["text"] == "ing"
        assert hive.live.followers == 1
        await hive.messenger.say("alpha", "@alice", "coming", in_reply_to=question)
        assert await alice.texts(1) == ["coming"]
        await until(lambda: hive.live.followers == 0)


async def test_a_turn_goes_on_being_shown_after_a_reconnect(here: Served) -> None:
    chat = await here.hive.messenger.say("@alice", "alpha", "a question", kind="chat")
    here.hive.live.words = [Piece(5, b'{"task_id":"t","token":1,"index":0,"text":"com"}')]
    async with here.open(f"{ALPHA}?after={chat.sequence}", ALICE) as alice:
        live = await alice.next("live", "text")
    assert (live["type"], live["message_id"]) == ("live", chat.id)


async def test_an_idle_conversation_follows_no_live_output(here: Served) -> None:
    note = await here.hive.messenger.say("@alice", "alpha", "a note")
    chat = await here.hive.messenger.say("@alice", "alpha", "a question", kind="chat")
    here.hive.messenger.become(chat.id, "expired")
    async with here.open(ALPHA, ALICE) as alice:
        assert [(await alice.next("text"))["message"]["id"] for _ in range(2)] == [note.id, chat.id]
        await alice.say(type="ping")
        await alice.next("pong")
        assert here.hive.live.followed_after == []


async def test_a_message_that_ends_without_an_answer_is_told(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messenger.api.chat.WAIT_AT_ONCE_S", 0.02)
    monkeypatch.setattr("services.messenger.api.chat.WAIT_WHILE_ACTIVE_S", 0.02)
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="hello")
        message_id = (await alice.next("text"))["message"]["id"]
        here.hive.messenger.become(message_id, "expired")
        assert await alice.next("state") == {"type": "state", "message_id": message_id, "state": "expired"}


@pytest.mark.parametrize(
    ("frame", "code", "pointer"),
    [
        ('{"type":"text","ref":"r1"}', "invalid_frame", "/content"),
        ('{"type":"text","ref":"r1","content":""}', "invalid_frame", "/content"),
        ('{"type":"text","ref":"r1","content":"x","priority":"P9"}', "invalid_frame", "/priority"),
        ('{"type":"text","ref":"r1","content":"x","to":"beta"}', "invalid_frame", "/to"),
        ('{"type":"shout","ref":"r1"}', "invalid_frame", "/type"),
        ('{"ref":"r1"}', "invalid_frame", "/type"),
        ('{"type":"ack","ref":"r1","sequence":-1}', "invalid_frame", None),
        ('{"type":"text","ref":"r1"', "malformed_json", None),
        ("hello", "malformed_json", None),
        ('{"x":' + "[" * 50_000, "nested_too_deeply", None),
        (b'{"type":"ping"}', "binary_frame", None),
    ],
)
async def test_a_frame_that_is_wrong_is_answered_with_what_is_wrong(
    here: Served, frame: str | bytes, code: str, pointer: str | None
) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        await alice.connection.send(frame)
        error = await alice.next("error")
        assert error["code"] == code, error
        if pointer is not None:
            assert (error["pointer"], error["ref"]) == (pointer, "r1"), error
        await alice.say(type="ping")
        assert await alice.next() == {"type": "pong"}
    assert here.hive.messenger.messages == {}


async def test_too_many_wrong_frames_in_a_row_end_it(here: Served) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        for _ in range(3):
            for _ in range(websocket.WRONG_IN_A_ROW_MAX - 1):
                await alice.connection.send("nonsense")
            await alice.say(type="ping")
            await alice.next("pong")
        for _ in range(websocket.WRONG_IN_A_ROW_MAX):
            await alice.connection.send("nonsense")
        code, reason = await alice.closed()
    assert (code, "10 frames in a row" in reason) == (1008, True)


async def test_a_frame_that_is_too_large_ends_it(here: Served) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r", content="\U0001f41d" * 10_000)
        await alice.next("accepted")
        await alice.connection.send("x" * 200_000)
        assert (await alice.closed())[0] == 1009


async def test_text_that_is_no_utf8_ends_it(here: Served) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        await alice.connection.send(b"\xff\xfe", text=True)
        assert (await alice.closed())[0] == 1007


async def test_a_refusal_of_the_messenger_is_told_with_the_ref(here: Served) -> None:
    here.hive.messenger.full.add("alpha")
    async with here.open(ALPHA, ALICE) as alice:
        await alice.say(type="text", ref="r1", content="hello")
        error = await alice.next("error")
    assert (error["code"], error["ref"], error["retry_after_s"]) == ("inbox_full", "r1", 5)


async def test_without_a_key_that_opens_nothing_is_opened(here: Served) -> None:
    hive = here.hive
    await hive.key("hive_expired-one-of-the-tests", scopes=TALKS, expires_in=timedelta(hours=-1))
    await hive.key("hive_tasks-only-of-the-tests", scopes=("tasks:read",))
    revoked = await hive.key("hive_revoked-one-of-the-tests", scopes=TALKS)
    await hive.revoke(revoked)
    assert await here.refused(ALPHA) == (401, "key_missing")
    assert await here.refused(ALPHA, "hive_nobody-knows-this") == (401, "key_unknown")
    assert await here.refused(ALPHA, "hive_expired-one-of-the-tests") == (401, "key_expired")
    assert await here.refused(ALPHA, "hive_revoked-one-of-the-tests") == (401, "key_revoked")
    assert await here.refused(ALPHA, "hive_tasks-only-of-the-tests") == (403, "scope_missing")
    assert await here.refused("/v1/tasks/t/ws", ALICE) == (403, "scope_missing")
    assert {code for _, code in hive.denied} >= {"key_missing", "key_unknown", "scope_missing"}
    assert len(hive.denied) == 6


async def test_what_is_not_there_is_not_opened(here: Served) -> None:
    for path, code in [
        ("/v1/bots/nobody/ws", "bot_not_found"),
        ("/v1/bots/no.body/ws", "bot_not_found"),
        ("/v1/bots/alpha", "not_found"),
        ("/", "not_found"),
    ]:
        assert await here.refused(path, ALICE) == (404, code)
    assert await here.refused(f"{ALPHA}?after=-1", ALICE) == (400, "invalid_query")
    assert await here.refused(f"{ALPHA}?before=1", ALICE) == (400, "invalid_query")


@pytest.mark.parametrize("origin", [None, "null", "http://evil.test", "http://127.0.0.1:1"])
async def test_another_sites_page_opens_nothing_with_the_cookie(here: Served, origin: str | None) -> None:
    await here.hive.key("hive_session_of-the-tests", kind="session", name="alice")
    cookie = {"Cookie": f"{COOKIE}=hive_session_of-the-tests"}
    assert await here.refused(ALPHA, headers=cookie, origin=origin) == (403, "origin_refused")


async def test_our_own_page_opens_it_with_the_cookie(here: Served) -> None:
    await here.hive.key("hive_session_of-the-tests", kind="session", name="alice")
    cookie = {"Cookie": f"{COOKIE}=hive_session_of-the-tests"}
    async with here.open(ALPHA, headers=cookie, origin=here.url.replace("ws", "http", 1)) as alice:
        assert (await alice.next())["party"] == "@alice"


async def test_a_key_without_the_scope_to_write_hears_only(here: Served) -> None:
    await here.hive.key(BOB, scopes=("messages:read",), name="bob")
    async with here.open(ALPHA, BOB) as bob:
        await bob.say(type="text", ref="r1", content="hello")
        error = await bob.next("error")
        assert (error["code"], error["ref"]) == ("scope_missing", "r1")
        await here.hive.messenger.say("alpha", "@bob", "hi")
        assert await bob.texts(1) == ["hi"]


async def test_who_is_revoked_or_expires_meanwhile_is_shown_out(here: Served) -> None:
    bob = await here.hive.key(BOB, scopes=TALKS, name="bob", expires_in=timedelta(hours=2))
    brief = "hive_brief-one-of-the-tests"
    await here.hive.key(brief, scopes=TALKS, name="carol", expires_in=timedelta(hours=1))
    async with (
        here.open(ALPHA, ALICE) as alice,
        here.open(ALPHA, BOB) as second,
        here.open(ALPHA, brief) as third,
    ):
        for each in (alice, second, third):
            await each.next("hello")
        here.hive.now += timedelta(hours=1)
        assert (await third.closed())[0] == 4401
        await here.hive.revoke(bob)
        code, reason = await second.closed()
        assert (code, reason.split(":")[0]) == (4401, "key_revoked")
        await alice.say(type="ping")
        assert await alice.next() == {"type": "pong"}


async def test_a_limited_key_pays_for_the_connection_and_for_each_frame(here: Served) -> None:
    await here.hive.key(BOB, scopes=TALKS, name="bob", rate=3)
    async with here.open(ALPHA, BOB) as bob:
        for _ in range(2):
            await bob.say(type="ping")
            await bob.next("pong")
        await bob.say(type="text", ref="r1", content="hello")
        error = await bob.next("error")
        assert (error["code"], error["ref"], error["retry_after_s"]) == ("rate_limited", "r1", 60)
        assert await here.refused(ALPHA, BOB) == (429, "rate_limited")
        here.hive.ticks += 60
        await bob.say(type="text", ref="r1", content="hello")
        await bob.next("accepted")


async def test_who_leaves_is_forgotten(here: Served) -> None:
    async with here.open(ALPHA, ALICE) as alice:
        await alice.next("hello")
        await until(lambda: here.hive.messenger.waiting == 1)
    await until(lambda: here.hive.messenger.waiting == 0 and not here.hive.sockets._open)


async def test_when_the_process_leaves_the_client_is_told_where_to_go_on(here: Served) -> None:
    said = await here.hive.messenger.say("alpha", "@alice", "one")
    async with here.open(ALPHA, ALICE) as alice, asyncio.TaskGroup() as tasks:
        await alice.texts(1)
        tasks.create_task(here.server.drain())
        assert await alice.closed() == (1012, f"moved: come again with ?after={said.sequence}")


async def test_who_does_not_read_is_shown_out_and_nothing_is_kept_for_it(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "SEND_WITHIN_S", 0.3)
    for _ in range(1_000):
        await here.hive.messenger.say("alpha", "@alice", "x" * 10_000)
    async with here.open(ALPHA, ALICE, max_queue=1) as alice:
        await alice.next("hello")
        await until(lambda: not here.hive.sockets._open)
        code, reason = await alice.closed()
    assert (code, reason) == (4408, "too slow: nothing was read for 0.3 s")


async def test_who_never_reads_again_is_cut_off(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SEND_WITHIN_S", 0.2)
    monkeypatch.setattr("shared.runtime.wsprotocol.CLOSED_WITHIN_S", 0.2)
    for _ in range(1_000):
        await here.hive.messenger.say("alpha", "@alice", "x" * 10_000)
    async with here.open(ALPHA, ALICE, max_queue=1) as alice:
        await alice.next("hello")
        connections = here.server._server.server_state.connections
        assert len(connections) == 1
        await until(lambda: not connections)


async def until(is_so: object, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # type: ignore[operator]
            await asyncio.sleep(0.01)
