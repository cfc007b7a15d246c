"""A task's output as it appears, over a WebSocket, on a real server with a real client."""

from collections.abc import AsyncIterator

import pytest

from services.orchestrator.api import stream
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.words import TaskId
from shared.runtime.live import Gap, Piece
from tests.support.api import ADMIN, ApiHive
from tests.support.chat import Served, served


@pytest.fixture
async def here() -> AsyncIterator[Served]:
    hive = ApiHive()
    await hive.key()
    async with served(hive) as made:
        yield made


async def ended_task(here: Served) -> str:
    async with here.hive.client() as client:
        task_id: str = (await client.post("/v1/tasks", json={"content": "x"})).json()["id"]
    await here.hive.decide(CancelTask(task_id=TaskId(task_id)))
    return task_id


def piece(sequence: int, index: int, text: str) -> Piece:
    return Piece(sequence, b'{"task_id":"t","token":3,"index":%d,"text":"%b"}' % (index, text.encode()))


async def test_chunks_and_gaps_come_as_frames_and_the_task_comes_last(here: Served) -> None:
    task_id = await ended_task(here)
    here.hive.live.words = [piece(4, 0, "a"), Gap(after=4, before=9, missing=2), piece(9, 3, "b")]
    async with here.open(f"/v1/tasks/{task_id}/ws", ADMIN) as reader:
        frames = [await reader.next() for _ in range(4)]
        assert await reader.closed() == (1000, "")
    assert frames[:3] == [
        {"type": "chunk", "sequence": 4, "token": 3, "index": 0, "text": "a", "channel": "out"},
        {"type": "gap", "after": 4, "before": 9, "missing": 2},
        {"type": "chunk", "sequence": 9, "token": 3, "index": 3, "text": "b", "channel": "out"},
    ]
    assert (frames[3]["type"], frames[3]["task"]["state"]) == ("end", "cancelled")


async def test_a_reader_goes_on_behind_what_it_saw(here: Served) -> None:
    task_id = await ended_task(here)
    here.hive.live.words = [piece(4, 0, "a"), piece(9, 1, "b")]
    async with here.open(f"/v1/tasks/{task_id}/ws?after=4", ADMIN) as reader:
        assert [(await reader.next())["type"] for _ in range(2)] == ["chunk", "end"]
    assert here.hive.live.followed_after == [4]


async def test_pings_are_answered_meanwhile_and_nothing_else_is_understood(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CATCH_UP_S", 1.0)
    task_id = await ended_task(here)

    async def last(_: TaskId) -> int:
        return 99

    here.hive.live.last = last  # type: ignore[method-assign]
    async with here.open(f"/v1/tasks/{task_id}/ws", ADMIN) as reader:
        await reader.say(type="ping")
        assert await reader.next() == {"type": "pong"}
        await reader.say(type="text", ref="r1", content="hello")
        error = await reader.next()
        assert (error["type"], error["code"], error["ref"]) == ("error", "invalid_frame", "r1")


async def test_a_task_that_is_not_there_or_not_decided_is_not_followed(here: Served) -> None:
    assert await here.refused("/v1/tasks/nothing/ws", ADMIN) == (404, "task_not_found")
    here.hive.undecided = True
    async with here.hive.client() as client:
        location = (await client.post("/v1/tasks", json={"content": "x"})).headers["location"]
    assert await here.refused(f"{location}/ws", ADMIN) == (409, "behind")


async def test_an_owner_that_goes_away_ends_it_and_the_reader_knows_where_to_go_on(here: Served) -> None:
    task_id = await ended_task(here)
    here.hive.live.words = [piece(4, 0, "a")]

    async def away(_: TaskId) -> int:
        here.hive.broker_away = True
        return (await here.hive.ask(stream.GetTask(task_id=TaskId(task_id)))).version

    here.hive.live.last = away  # type: ignore[method-assign]
    async with here.open(f"/v1/tasks/{task_id}/ws", ADMIN) as reader:
        code, reason = await reader.closed()
    assert (code, reason) == (1013, "unavailable: the broker is away")
