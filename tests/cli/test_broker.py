"""The hive's own broker under watch, as a real server."""

import asyncio
import os
import signal
from pathlib import Path

from cli.broker import Broker
from cli.data_dir import DataDir
from cli.plan import Plan
from shared.runtime.credentials import create_authority

WITHIN_S = 50.0


async def test_a_broker_that_dies_while_a_full_disk_is_made_up_for_is_started_again_and_that_too(
    tmp_path: Path,
) -> None:
    """What is owed after a full disk holds up no watch over the server, and is not forgotten when it dies."""
    data = DataDir(tmp_path)
    data.make()
    plan = Plan(data=tmp_path, durability="os")
    broker = Broker(plan, create_authority(plan.keys), lambda _: None)
    await broker.until_ready()
    served: asyncio.Queue[int] = asyncio.Queue()
    owed: asyncio.Queue[int] = asyncio.Queue()

    async def after_full_disk() -> None:
        await owed.put(broker.pid)
        if owed.qsize() == 1:
            await asyncio.Event().wait()  # the server dies meanwhile

    broker._was_stuck = True  # as if the one before had met a full disk
    try:
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(
                broker.keep_running(lambda: served.put_nowait(broker.pid), after_full_disk),
            )
            while owed.qsize() < 1:
                await asyncio.sleep(0)
            first = broker.pid
            os.kill(first, signal.SIGKILL)
            second = await served.get()
            while owed.qsize() < 2:
                await asyncio.sleep(0)
            await broker.stop()
    finally:
        broker.kill()

    assert second != first
    assert [await owed.get(), await owed.get()] == [first, second]
