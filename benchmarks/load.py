"""The load: tasks in one batch, one by one with many in flight, and one at a time; all end in the log."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from benchmarks.hive import Hive
from benchmarks.tail import Tail

TASKS: Final = 5_000
CONTENT: Final = "x" * 200
IN_FLIGHT: Final = 64
ALONE: Final = 500
BOTS: Final = 20
SLOTS: Final = 3
LAUNCHES_AT_ONCE: Final = 8
LINES: Final = "application/x-ndjson"
TASK: Final = {"content": CONTENT, "type": "other", "engine": "echo"}


async def launch(hive: Hive, count: int, *, prefix: str = "bench", slots: int = SLOTS) -> float:
    """Launch echo bots, and wait until all of them are up; the seconds it took."""
    names = iter(f"{prefix}-{number}" for number in range(count))
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(LAUNCHES_AT_ONCE, count)):
            group.create_task(_launch_each(hive, names, slots))
    return time.perf_counter() - began


async def _launch_each(hive: Hive, names: Iterator[str], slots: int) -> None:
    async with hive.client() as client:
        for name in names:
            await client.post("/v1/bots?wait=30", {"name": name, "engine": "echo", "slots": slots})


async def batch(hive: Hive, count: int = TASKS) -> float:
    """Tasks a second, from the request with all of them until the last one's end is in the log."""
    lines = b"\n".join([msgspec.json.encode(TASK)] * count)
    async with Tail(hive) as tail, hive.client() as client:
        began = time.perf_counter()
        answer = await client.post("/v1/tasks/batch", lines, kind=LINES)
        await tail.completed(count)
        took = time.perf_counter() - began
    _all_taken(answer, count)
    return count / took


async def one_by_one(hive: Hive, count: int = TASKS) -> float:
    """Tasks a second, each a request of its own, 64 in flight, until the last one's end is in the log."""
    async with Tail(hive) as tail:
        numbers = iter(range(count))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(_submit_each(hive, numbers))
        await tail.completed(count)
        return count / (time.perf_counter() - began)


async def _submit_each(hive: Hive, numbers: Iterator[int]) -> None:
    async with hive.client() as client:
        for _ in numbers:
            await client.post("/v1/tasks", TASK)


async def one_at_a_time(hive: Hive, count: int = ALONE) -> list[float]:
    """Milliseconds from the request to its answer with the result, nothing else going on."""
    took: list[float] = []
    async with hive.client() as client:
        for _ in range(count):
            began = time.perf_counter()
            task = await client.post("/v1/tasks?wait=30", TASK)
            took.append((time.perf_counter() - began) * 1000)
            assert task["state"] == "completed", task
    return took


def _all_taken(answer: Any, count: int) -> None:
    items = answer["items"]
    refused = [item for item in items if item.get("status", 201) >= 300]
    assert len(items) == count, f"{len(items)} answers to {count} lines"
    assert not refused, refused[0]
