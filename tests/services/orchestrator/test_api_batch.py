"""Many tasks in one request: each line has its own outcome."""

import json
from typing import Any

import httpx
import pytest

from services.gateway.backpressure import Load
from shared.contracts.words import BATCH_LINES_MAX
from tests.support.api import ApiHive


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def send(
    hive: ApiHive, content: bytes, kind: str = "application/jsonl", **headers: str
) -> httpx.Response:
    told = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with hive.client() as client:
        return await client.post("/v1/tasks/batch", content=content, headers=told)


def lines(*tasks: Any) -> bytes:
    return b"\n".join(task if isinstance(task, bytes) else json.dumps(task).encode() for task in tasks)


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson", "application/json"])
async def test_every_line_has_its_outcome_in_order(hive: ApiHive, kind: str) -> None:
    tasks = [{"content": f"task {number}"} for number in range(600)]
    body = json.dumps(tasks).encode() if kind == "application/json" else lines(*tasks)
    answer = await send(hive, body, kind)
    told = answer.json()
    assert answer.status_code == 200
    assert (told["accepted"], told["refused"]) == (600, 0)
    assert [item["line"] for item in told["items"]] == list(range(1, 601))
    assert {item["status"] for item in told["items"]} == {201}
    contents = [(await hive.task(item["id"])).content for item in told["items"]]
    assert contents == [task["content"] for task in tasks]


async def test_a_line_may_come_after_another_by_its_key_whichever_stands_first(hive: ApiHive) -> None:
    first = {"content": "first", "idempotency_key": "one"}
    second = {"content": "second", "after_keys": ["one", "three"]}
    third = {"content": "third", "idempotency_key": "three"}
    answer = await send(hive, lines(first, second, third))
    ids = [item["id"] for item in answer.json()["items"]]
    assert (await hive.task(ids[1])).after == (ids[0], ids[2])


async def test_a_bad_line_does_not_spoil_the_others(hive: ApiHive) -> None:
    answer = await send(
        hive,
        lines(
            {"content": "good"},
            {"content": ""},
            b"{not json",
            b"",
            b'{"content":"\xff"}',
            b"[" * 100_000,
            {"content": "x", "colour": "red"},
            {"content": "good, too"},
        ),
    )
    told = answer.json()
    assert [(item["line"], item["status"]) for item in told["items"]] == [
        (1, 201),
        (2, 400),
        (3, 400),
        (5, 400),
        (6, 400),
        (7, 400),
        (8, 201),
    ]
    problems = [item["problem"] for item in told["items"] if "problem" in item]
    assert [problem["code"] for problem in problems] == [
        "invalid_body",
        "malformed_json",
        "invalid_utf8",
        "invalid_body",
        "invalid_body",
    ]
    assert problems[0]["errors"][0]["pointer"] == "/content"
    assert (told["accepted"], told["refused"]) == (2, 5)


async def test_a_batch_sent_twice_under_one_key_is_one_batch(hive: ApiHive) -> None:
    body = lines({"content": "a"}, {"content": "b"})
    first = (await send(hive, body, Idempotency_Key="batch-1")).json()
    again = (await send(hive, body, Idempotency_Key="batch-1")).json()
    assert [item["id"] for item in first["items"]] == [item["id"] for item in again["items"]]
    assert [item.get("replayed", False) for item in first["items"] + again["items"]] == [
        False,
        False,
        True,
        True,
    ]


async def test_a_line_may_have_its_own_key(hive: ApiHive) -> None:
    first = (await send(hive, lines({"content": "a", "idempotency_key": "k1"}))).json()["items"][0]
    async with hive.client() as client:
        alone = await client.post("/v1/tasks", json={"content": "a"}, headers={"Idempotency-Key": "k1"})
    assert alone.json()["id"] == first["id"]
    assert alone.headers["idempotent-replayed"] == "true"
    other = (await send(hive, lines({"content": "b", "idempotency_key": "k1"}))).json()["items"][0]
    assert (other["status"], other["problem"]["code"], other["id"]) == (
        422,
        "idempotency_key_reused",
        first["id"],
    )


async def test_lines_that_are_not_decided_in_time_are_accepted(hive: ApiHive) -> None:
    hive.undecided = True
    item = (await send(hive, lines({"content": "a"}))).json()["items"][0]
    assert item["status"] == 202
    async with hive.client() as client:
        assert (await client.get(f"/v1/tasks/{item['id']}")).status_code == 202


async def test_lines_that_the_queue_does_not_take_say_when_to_come_again(hive: ApiHive) -> None:
    hive.loads["orchestrator"] = Load(messages=1, bytes=75, bytes_max=100)
    told = (await send(hive, lines({"content": "a"}, {"content": "b", "priority": "P0"}))).json()
    assert [item["status"] for item in told["items"]] == [429, 201]
    assert told["items"][0]["retry_after_s"] == 1


async def test_when_the_broker_is_away_every_line_says_so(hive: ApiHive) -> None:
    hive.broker_away = True
    told = (await send(hive, lines({"content": "a"}, {"content": "b"}))).json()
    assert [item["problem"]["code"] for item in told["items"]] == ["unavailable", "unavailable"]


async def test_an_empty_batch_is_an_empty_answer(hive: ApiHive) -> None:
    assert (await send(hive, b"\n\n")).json() == {"items": [], "accepted": 0, "refused": 0}
    assert (await send(hive, b"[]", "application/json")).json()["items"] == []


async def test_a_batch_has_a_limit_of_lines(hive: ApiHive) -> None:
    answer = await send(hive, b"{}\n" * (BATCH_LINES_MAX + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_lines")


async def test_a_batch_has_a_limit_of_bytes(hive: ApiHive) -> None:
    answer = await send(hive, b" " * 16_000_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"content":"x"}', "application/json", 400),
        (b"[{]", "application/json", 400),
        (b"x", "text/plain", 415),
        (b"x", "application/octet-stream", 415),
    ],
)
async def test_what_is_no_batch_is_refused_whole(hive: ApiHive, body: bytes, kind: str, status: int) -> None:
    assert (await send(hive, body, kind)).status_code == status
