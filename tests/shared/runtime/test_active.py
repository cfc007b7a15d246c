"""What the holder of a seat does ends when the seat is lost, at whichever moment."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from shared.runtime.active import Active
from shared.runtime.assembly import Assembly


async def test_a_lost_seat_ends_todo_even_in_the_moment_that_wakes_it() -> None:
    due = asyncio.Event()

    async def todo(owned: frozenset[int]) -> None:
        await asyncio.sleep(0)

    runtime = cast("Any", SimpleNamespace(due=due, partitions=frozenset()))
    active = Active(runtime, Assembly(todo=todo), cast("Any", None), cast("Any", None), [])
    for turns in range(6):
        task = asyncio.ensure_future(active._todo())
        for _ in range(turns):
            await asyncio.sleep(0)
        due.set()
        task.cancel()

        await asyncio.wait([task], timeout=5)

        assert task.cancelled(), turns
        due.clear()
