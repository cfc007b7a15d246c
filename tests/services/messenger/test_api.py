"""Messages over HTTP."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.api import ApiHive

ALICE, BOB, BOTS_FRIEND = "hive_alice-of-the-tests-0", "hive_bob-of-the-tests-000", "hive_read-only-of-tests"
TALKS = ("messages:read", "messages:write")


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key(name="root")
    await made.key(ALICE, scopes=TALKS, name="alice")
    await made.key(BOB, scopes=TALKS, name="bob")
    return made


async def send(hive: ApiHive, secret: str = ALICE, key: str | None = None, **body: Any) -> httpx.Response:
    wish = {"to": "alpha", "content": "the build is red", **body}
    async with hive.client(secret, **({} if key is None else {"Idempotency-Key": key})) as client:
        return await client.post("/v1/messages", json=wish)


async def get(hive: ApiHive, path: str, secret: str = ALICE, **params: str) -> httpx.Response:
    async with hive.client(secret) as client:
        return await client.get(path, params=params)


def contents(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["content"] for item in answer.json()["items"]]


async def test_a_message_is_accepted_in_the_name_of_the_keys_person(hive: ApiHive) -> None:
    answer = await send(hive, priority="P0", kind="chat")
    message = answer.json()
    assert answer.status_code == 201
    assert (message["sender"], message["recipient"], message["state"]) == ("@alice", "alpha", "pending")
    assert (message["priority"], message["kind"]) == ("P0", "chat")
    assert answer.headers["location"] == f"/v1/messages/{message['id']}"
    assert answer.headers["hive-version"] == str(message["version"])
    shown = await get(hive, answer.headers["location"])
    assert (shown.status_code, shown.json()["content"]) == (200, "the build is red")


async def test_one_may_speak_for_a_bot_and_for_oneself_but_for_no_other_person(hive: ApiHive) -> None:
    assert (await send(hive, **{"from": "beta"})).json()["sender"] == "beta"
    assert (await send(hive, **{"from": "@alice"})).json()["sender"] == "@alice"
    refused = await send(hive, **{"from": "@bob"})
    assert (refused.status_code, refused.json()["code"]) == (403, "sender_refused")
    assert refused.json()["errors"][0]["pointer"] == "/from"
    spoken = await send(hive, to="@bob", **{"from": "alpha"})
    assert (spoken.status_code, spoken.json()["code"]) == (403, "sender_refused")
    assert {command.sender for command in hive.sent if hasattr(command, "sender")} == {"beta", "@alice"}
    assert (await send(hive, to="@alice", **{"from": "alpha"})).status_code == 201
    async with hive.client() as admin:
        body = {"to": "@bob", "from": "alpha", "content": "hi"}
        assert (await admin.post("/v1/messages", json=body)).status_code == 201


async def test_an_unknown_recipient_is_named_or_waited_for(hive: ApiHive) -> None:
    unknown = await send(hive, to="alhpa")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "recipient_unknown")
    assert "alpha" in unknown.json()["detail"]
    held = await send(hive, to="alhpa", hold=True)
    assert (held.status_code, held.json()["held"]) == (201, True)
    async with hive.client(ALICE) as client:
        asked = await client.post("/v1/messages?hold=true", json={"to": "later", "content": "hi"})
    assert (asked.status_code, asked.json()["held"]) == (201, True)


async def test_an_unknown_sender_is_named(hive: ApiHive) -> None:
    unknown = await send(hive, **{"from": "alhpa"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "sender_unknown")
    assert "alpha" in unknown.json()["detail"]


async def test_a_full_inbox_takes_only_what_is_critical(hive: ApiHive) -> None:
    hive.messenger.full.add("alpha")
    full = await send(hive, priority="P1")
    assert (full.status_code, full.json()["code"]) == (429, "inbox_full")
    assert int(full.headers["retry-after"]) > 0
    assert (await send(hive, priority="P0")).status_code == 201


async def test_asked_twice_with_one_key_it_is_sent_once(hive: ApiHive) -> None:
    first, again = [await send(hive, key="k1") for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await send(hive, key="k1", content="something else")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await send(hive, BOB, key="k1")).json()["id"] != first.json()["id"]


async def test_the_same_wish_written_otherwise_is_the_same(hive: ApiHive) -> None:
    first = await send(hive, key="k1", hold=True)
    async with hive.client(ALICE, **{"Idempotency-Key": "k1"}) as client:
        wish = {
            "content": "the build is red",
            "to": "alpha",
            "from": "@alice",
            "ttl_s": 3600,
            "priority": "P2",
        }
        again = await client.post("/v1/messages?hold=true", json=wish)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"to": "al pha"}, "/to"),
        ({"to": "@"}, "/to"),
        ({"from": "no bot!"}, "/from"),
        ({"content": ""}, "/content"),
        ({"content": "x" * 10_001}, "/content"),
        ({"priority": "P4"}, "/priority"),
        ({"kind": "letter"}, "/kind"),
        ({"ttl_s": 0.9}, "/ttl_s"),
        ({"deliveries_max": 21}, "/deliveries_max"),
        ({"in_reply_to": "a/b"}, "/in_reply_to"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_what_is_wrong_is_pointed_at(hive: ApiHive, body: dict[str, Any], pointer: str) -> None:
    answer = await send(hive, **body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_what_is_not_decided_yet_is_on_its_way(hive: ApiHive) -> None:
    hive.undecided = True
    accepted = await send(hive)
    assert (accepted.status_code, accepted.json()["state"]) == (202, "accepted")
    location = accepted.headers["location"]
    assert (await get(hive, location)).status_code == 202
    async with hive.client(ALICE) as client:
        early = await client.post(f"{location}/read")
    assert (early.status_code, early.json()["code"]) == (409, "behind")
    await hive.catch_up()
    assert (await get(hive, location)).json()["state"] == "pending"


async def test_a_message_that_is_nowhere_is_not_found(hive: ApiHive) -> None:
    for path in ("/v1/messages/nothing", "/v1/messages/a.b", "/v1/broadcasts/nothing", "/v1/broadcasts/a.b"):
        answer = await get(hive, path)
        assert (answer.status_code, answer.json()["code"].endswith("_not_found")) == (404, True), path


async def test_the_recipient_says_that_it_has_read(hive: ApiHive) -> None:
    message = await hive.messenger.say("alpha", "@alice", "done")
    async with hive.client(ALICE) as client:
        inbox = (await client.get("/v1/inbox", params={"unread": "true"})).json()
        assert (inbox["unread"], [item["id"] for item in inbox["items"]]) == (1, [message.id])
        read = await client.post(f"/v1/messages/{message.id}/read")
        assert (read.status_code, read.json()["state"]) == (200, "read")
        assert (await client.get("/v1/inbox")).json()["unread"] == 0
    assert hive.messenger.read_commands[0].reader == "@alice"


async def test_what_was_not_delivered_cannot_be_read(hive: ApiHive) -> None:
    message_id = (await send(hive)).json()["id"]
    async with hive.client(ALICE) as client:
        answer = await client.post(f"/v1/messages/{message_id}/read")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_delivered")


async def test_a_bots_inbox_is_filtered(hive: ApiHive) -> None:
    for priority in ("P0", "P1", "P1"):
        await send(hive, content=priority, priority=priority)
    hive.messenger.become(next(iter(hive.messenger.messages)), "read")
    assert contents(await get(hive, "/v1/bots/alpha/inbox")) == ["P1", "P1", "P0"]
    assert contents(await get(hive, "/v1/bots/alpha/inbox", priority="P1")) == ["P1", "P1"]
    assert contents(await get(hive, "/v1/bots/alpha/inbox", unread="true")) == ["P1", "P1"]
    assert contents(await get(hive, "/v1/bots/alpha/inbox", state="read")) == ["P0"]
    assert (await get(hive, "/v1/bots/alpha/inbox")).json()["unread"] == 2


async def test_nothing_of_a_bot_that_is_not_there_is_not_found(hive: ApiHive) -> None:
    for path in ("/v1/bots/nobody/inbox", "/v1/bots/nobody/messages", "/v1/bots/no.body/inbox"):
        answer = await get(hive, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "bot_not_found")


async def test_a_bots_history_has_both_directions_and_no_other_bot_page_by_page(hive: ApiHive) -> None:
    for number in range(4):
        await hive.messenger.say("alpha", "@alice", f"alpha says {number}")
        await hive.messenger.say("@alice", "alpha", f"alice says {number}")
        await hive.messenger.say("beta", "@alice", f"beta says {number}")
    seen: list[str] = []
    params = {"limit": "3"}
    while True:
        page = await get(hive, "/v1/bots/alpha/messages", **params)
        seen += contents(page)
        if (cursor := page.json()["next_cursor"]) is None:
            break
        params["cursor"] = cursor
    assert seen == [f"{who} says {number}" for number in (3, 2, 1, 0) for who in ("alice", "alpha")]


async def test_a_conversation_is_that_of_two(hive: ApiHive) -> None:
    await hive.messenger.say("alpha", "beta", "one")
    await hive.messenger.say("beta", "alpha", "two")
    await hive.messenger.say("alpha", "@alice", "three")
    assert contents(await get(hive, "/v1/conversations/alpha/beta")) == ["two", "one"]
    assert contents(await get(hive, f"/v1/conversations/{quote('@alice')}/alpha")) == ["three"]
    assert (await get(hive, "/v1/conversations/alpha/b%20b")).status_code == 404


async def test_messages_are_listed_by_what_they_are(hive: ApiHive) -> None:
    await hive.messenger.say("alpha", "beta", "one")
    await hive.messenger.say("beta", "alpha", "two", priority="P0")
    await hive.messenger.say("beta", "@alice", "three", broadcast="b1")
    assert contents(await get(hive, "/v1/messages")) == ["three", "two", "one"]
    assert contents(await get(hive, "/v1/messages", party="alpha")) == ["two", "one"]
    assert contents(await get(hive, "/v1/messages", sender="beta", recipient="alpha")) == ["two"]
    assert contents(await get(hive, "/v1/messages", recipient="@alice")) == ["three"]
    assert contents(await get(hive, "/v1/messages", state="delivered")) == ["three"]
    assert contents(await get(hive, "/v1/messages", priority="P0")) == ["two"]
    assert contents(await get(hive, "/v1/messages", broadcast="b1")) == ["three"]
    bad = await get(hive, "/v1/messages", state="lost")
    assert (bad.status_code, bad.json()["errors"][0]["parameter"]) == (400, "state")


async def test_what_other_persons_wrote_and_got_is_theirs_and_an_administrators(hive: ApiHive) -> None:
    letter = (await send(hive, content="secret")).json()["id"]
    answer = await hive.messenger.say("alpha", "@alice", "also secret")
    await hive.messenger.say("alpha", "beta", "open")
    for path in ("/v1/messages", "/v1/bots/alpha/messages"):
        assert contents(await get(hive, path, BOB)) == ["open"]
        assert len(contents(await get(hive, path, ALICE))) == 3
    assert contents(await get(hive, "/v1/bots/alpha/inbox", BOB)) == []
    assert contents(await get(hive, "/v1/inbox", BOB)) == []
    refused = await get(hive, "/v1/conversations/@alice/alpha", BOB)
    assert (refused.status_code, refused.json()["code"]) == (403, "party_refused")
    for message_id in (letter, answer.id):
        assert (await get(hive, f"/v1/messages/{message_id}", BOB)).status_code == 404
        async with hive.client(BOB) as client:
            assert (await client.post(f"/v1/messages/{message_id}/read")).status_code == 404
    async with hive.client() as admin:
        assert (await admin.get(f"/v1/messages/{letter}")).status_code == 200
        assert len(contents(await admin.get("/v1/conversations/@alice/alpha"))) == 2


async def test_a_broadcast_is_one_command_with_a_summary(hive: ApiHive) -> None:
    async with hive.client(ALICE, **{"Idempotency-Key": "b"}) as client:
        sent = await client.post("/v1/broadcasts", json={"content": "freeze at noon", "pool": "coders"})
        summary = sent.json()
        assert (sent.status_code, summary["recipients"], summary["sender"]) == (201, 2, "@alice")
        assert (await client.get(sent.headers["location"])).json() == summary
        nobody = await client.post(
            "/v1/broadcasts", json={"content": "x", "pool": "nobody"}, headers={"Idempotency-Key": "c"}
        )
        assert (nobody.status_code, nobody.json()["code"]) == (409, "no_recipients")
    hive.undecided = True
    async with hive.client(ALICE) as client:
        later = await client.post("/v1/broadcasts", json={"content": "x", "all": True})
        assert later.status_code == 202
        assert (await client.get(later.headers["location"])).status_code == 202


@pytest.mark.parametrize(
    "chosen", [{}, {"pool": "a", "all": True}, {"pool": "a", "type": "code"}, {"all": False}]
)
async def test_a_broadcast_says_to_whom_in_one_way(hive: ApiHive, chosen: dict[str, Any]) -> None:
    async with hive.client(ALICE) as client:
        answer = await client.post("/v1/broadcasts", json={"content": "x", **chosen})
    assert (answer.status_code, answer.json()["code"]) == (422, "recipients_unclear")


async def test_messaging_says_how_it_is_doing(hive: ApiHive) -> None:
    answer = await get(hive, "/v1/messaging/status")
    assert (answer.status_code, answer.json()["full_inboxes"]) == (200, [])


async def test_the_scopes_are_those_of_messages(hive: ApiHive) -> None:
    await hive.key(BOTS_FRIEND, scopes=("messages:read",))
    assert (await get(hive, "/v1/messages", BOTS_FRIEND)).status_code == 200
    assert (await send(hive, BOTS_FRIEND)).json()["code"] == "scope_missing"
    await hive.key("hive_of-tasks-only-of-tests", scopes=("tasks:read", "bots:read"))
    assert (await get(hive, "/v1/bots/alpha/inbox", "hive_of-tasks-only-of-tests")).status_code == 403
