"""Schedules over HTTP: the real rules, the real rows, in one process."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from services.scheduler.schedule_board import Board
from services.scheduler.schedule_commands import Tick
from services.scheduler.schedule_tables import SELECT_BEGIN
from shared.contracts.orchestrator.facts import TaskCancelled, TaskSubmitted
from shared.contracts.scheduler.schedules import (
    ScheduleName,
    task_id_of,
)
from shared.contracts.words import Priority, TaskId, TaskType
from shared.kernel.messages import Cause, Recorded
from tests.support.api import ApiHive
from tests.support.scenario import NOON

CAUSE = Cause(message_id="m", correlation_id="chain", actor="test")
BODY = {"name": "nightly", "expression": "0 3 * * *", "task": {"content": "run the tests"}}


class Desk:
    """A hive, and a seat holder of its scheduler that looks when it is told to."""

    def __init__(self) -> None:
        self.hive = ApiHive()
        self.board = self.hive.schedules.board

    async def tick(self, at: datetime) -> None:
        self.hive.now = at
        await self.hive.decide(Tick(name=ScheduleName("nightly")))

    async def request(self, verb: str, path: str = "", **more: Any) -> httpx.Response:
        async with self.hive.client(**more.pop("headers", {})) as client:
            return await client.request(verb, f"/v1/schedules{path}", **more)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.hive.key()
    return made


async def test_a_schedule_is_added_and_shown_with_its_next_times(desk: Desk) -> None:
    added = await desk.request("POST", json={**BODY, "timezone": "Europe/Zurich"})
    assert (added.status_code, added.headers["location"]) == (201, "/v1/schedules/nightly")
    shown = (await desk.request("GET", "/nightly")).json()
    assert shown == added.json()
    assert [f"2030-01-{day:02}T02:00:00Z" for day in range(2, 7)] == shown["next"]
    again = await desk.request("POST", json={**BODY, "timezone": "Europe/Zurich"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    other = await desk.request("POST", json=BODY)
    assert (other.status_code, other.json()["code"]) == (409, "schedule_exists")
    listed = (await desk.request("GET")).json()
    assert ["nightly"] == [each["name"] for each in listed["items"]]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"expression": "0 25 * * *"}, "/expression", "at position 3: '25' is no hour"),
        ({"expression": "@at 2029-01-01T00:00:00Z"}, "/expression", "is in the past"),
        ({"timezone": "Europe/Zürich"}, "/timezone", "did you mean Europe/Zurich"),
        ({"jitter_s": 9_999}, "/jitter_s", "3600"),
        ({"catch_up": "some"}, "/catch_up", "some"),
        ({"task": {"content": ""}}, "/task/content", "length"),
        ({"name": "has space"}, "/name", "regex"),
    ],
)
async def test_what_is_wrong_is_named(desk: Desk, change: dict[str, Any], pointer: str, says: str) -> None:
    refused = await desk.request("POST", json=BODY | change)
    assert refused.status_code in {400, 422}
    (wrong,) = refused.json()["errors"]
    assert pointer == wrong["pointer"]
    assert says in wrong["detail"]


async def test_a_schedule_is_changed_paused_resumed_and_removed(desk: Desk) -> None:
    await desk.request("POST", json=BODY)
    plan = {"expression": "30 4 * * *", "task": {"content": "x", "priority": "P1"}}
    changed = await desk.request("PUT", "/nightly", json=plan)
    assert (changed.status_code, changed.json()["next"][0]) == (200, "2030-01-02T04:30:00Z")
    paused = (await desk.request("POST", "/nightly/pause")).json()
    assert ("paused", []) == (paused["state"], paused["next"])
    assert (await desk.request("POST", "/nightly/resume")).json()["state"] == "active"
    assert (await desk.request("DELETE", "/nightly")).status_code == 200
    gone = await desk.request("GET", "/nightly")
    assert (gone.status_code, gone.json()["code"]) == (404, "schedule_removed")
    for verb, path in (("POST", "/nightly/pause"), ("POST", "/nightly/run"), ("DELETE", "/nightly")):
        assert (await desk.request(verb, path)).status_code == 404
    assert (await desk.request("PUT", "/nightly", json=plan)).status_code == 404
    assert (await desk.request("GET", "/never")).json()["code"] == "schedule_not_found"


async def test_a_run_with_a_key_is_one_run(desk: Desk) -> None:
    await desk.request("POST", json=BODY)
    runs = [await desk.request("POST", "/nightly/run", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [201, 201] == [run.status_code for run in runs]
    assert runs[0].json() == runs[1].json()
    assert runs[0].headers["location"] == f"/v1/tasks/{runs[0].json()['task_id']}"
    receipts = (await desk.request("GET", "/nightly/receipts")).json()["items"]
    assert [("fired", True, "asked")] == [
        (each["outcome"], each["manual"], each["reason"]) for each in receipts
    ]


async def test_receipts_come_newest_first_page_by_page(desk: Desk) -> None:
    await desk.request("POST", json={**BODY, "expression": "@hourly", "catch_up": "all"})
    await desk.tick(NOON + timedelta(hours=5, minutes=1))
    first = (await desk.request("GET", "/nightly/receipts?limit=3")).json()
    rest = (await desk.request("GET", f"/nightly/receipts?limit=3&cursor={first['next_cursor']}")).json()
    dues = [each["due_at"] for each in (*first["items"], *rest["items"])]
    assert [f"2030-01-01T{hour}:00:00Z" for hour in (17, 16, 15, 14, 13)] == dues
    assert rest["next_cursor"] is None
    assert (await desk.request("GET", "/never/receipts")).status_code == 404
    doc = (await desk.request("GET", "/nightly")).json()
    assert (0, 5, 5) == (doc["fired"], doc["late"], len(doc["running"]))


async def test_what_memory_begins_with_is_what_it_would_have_heard(desk: Desk) -> None:
    await desk.request("POST", json={**BODY, "expression": "@hourly", "catch_up": "all", "overlap": "queue"})
    await desk.tick(NOON + timedelta(hours=2))
    await desk.request("POST", "/nightly/run")
    task_id = task_id_of(ScheduleName("nightly"), NOON + timedelta(hours=1))
    assert task_id in desk.board.unsubmitted
    submitted = TaskSubmitted(
        task_id=task_id,
        type=TaskType.OTHER,
        type_reason="",
        content="x",
        priority=Priority.P2,
        submitter="schedule:nightly",
        body_hash="",
        timeout_s=1.0,
    )
    ended = TaskCancelled(task_id=TaskId("another"), reason="")
    for number, fact in enumerate((submitted, ended), 100):
        desk.hive.schedules.heard(
            Recorded(
                facts=(fact,),
                commit_id="c",
                aggregate="task",
                aggregate_id=fact.task_id,
                sequence=number,
                at=NOON,
                cause=CAUSE,
            )
        )
    begun = Board()
    begun.begin(99, desk.hive.schedules.look(SELECT_BEGIN))
    assert desk.board.entries == begun.entries
    assert desk.board.unsubmitted == begun.unsubmitted
    assert len(begun.unsubmitted) == 1


async def test_a_page_of_long_schedules_is_as_long_as_an_answer_may_be(desk: Desk) -> None:
    names = [f"s{number:03}" for number in range(60)]
    for name in names:
        body = {"name": name, "expression": "@daily", "task": {"content": "\U0001f41d" * 10_000}}
        assert (await desk.request("POST", json=body)).status_code == 201
    found: list[str] = []
    cursor = ""
    while True:
        answer = await desk.request("GET", f"?limit=200{cursor}")
        assert len(answer.content) < 2_000_000
        found += [each["name"] for each in answer.json()["items"]]
        if answer.json()["next_cursor"] is None:
            break
        cursor = f"&cursor={answer.json()['next_cursor']}"
    assert names == found
