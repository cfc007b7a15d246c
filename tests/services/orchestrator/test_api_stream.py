"""A task's output as it appears, over server-sent events."""

import asyncio

import httpx
import pytest

from services.orchestrator.api import stream
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.words import TaskId
from shared.runtime.live import Gap, Piece
from tests.support.api import ApiHive


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def ended_task(hive: ApiHive) -> str:
    async with hive.client() as client:
        task_id: str = (await client.post("/v1/tasks", json={"content": "x"})).json()["id"]
    await hive.decide(CancelTask(task_id=TaskId(task_id)))
    return task_id


async def follow(hive: ApiHive, task_id: str, **headers: str) -> httpx.Response:
    async with asyncio.timeout(5), hive.client() as client:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.get(f"/v1/tasks/{task_id}/stream", headers=told)


def events(answer: httpx.Response) -> list[tuple[str, str | None]]:
    """(event, id) of each."""
    told: list[tuple[str, str | None]] = []
    for block in answer.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        told.append((fields["event"], fields.get("id")))
    return told


async def test_chunks_come_with_their_sequence_and_the_task_comes_last(hive: ApiHive) -> None:
    task_id = await ended_task(hive)
    hive.live.words = [Piece(4, b'{"text":"a"}'), Piece(9, b'{"text":"b"}')]
    answer = await follow(hive, task_id)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert events(answer) == [("chunk", "4"), ("chunk", "9"), ("end", None)]
    assert 'data: {"text":"a"}' in answer.text
    assert '"state":"cancelled"' in answer.text.rpartition("event: end")[2]


async def test_a_reader_goes_on_behind_its_last_event(hive: ApiHive) -> None:
    task_id = await ended_task(hive)
    hive.live.words = [Piece(4, b"{}"), Piece(9, b"{}")]
    answer = await follow(hive, task_id, Last_Event_ID="4")
    assert events(answer) == [("chunk", "9"), ("end", None)]
    assert hive.live.followed_after == [4]


async def test_a_gap_is_told_as_one(hive: ApiHive) -> None:
    task_id = await ended_task(hive)
    hive.live.words = [Gap(after=4, before=9, missing=3), Piece(9, b"{}")]
    answer = await follow(hive, task_id, Last_Event_ID="4")
    assert events(answer) == [("gap", None), ("chunk", "9"), ("end", None)]
    assert 'data: {"after":4,"before":9,"missing":3}' in answer.text


async def test_what_never_arrives_does_not_hold_up_the_end(
    hive: ApiHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CATCH_UP_S", 0.01)
    task_id = await ended_task(hive)

    async def last(_: TaskId) -> int:
        return 99

    hive.live.last = last  # type: ignore[method-assign]
    assert events(await follow(hive, task_id)) == [("end", None)]


@pytest.mark.parametrize("last", ["x", "-1", "1.5"])
async def test_a_bad_last_event_is_refused(hive: ApiHive, last: str) -> None:
    answer = await follow(hive, await ended_task(hive), Last_Event_ID=last)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")
