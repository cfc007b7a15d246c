"""A flood on a pool of one bot: how soon a bot that it launched for that has its first task."""

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.hive import Hive, started

FLOOD: Final = 200
TEMPLATE: Final = {"engine": "shell", "slots": 2, "allow": ["sleep"]}
LOOK_EVERY_S: Final = 0.02
WITHIN_S: Final = 30.0


def measure(folder: Path, durability: str) -> float:
    """Seconds from the moment at which the flood is sent to that task's start."""
    with started(folder, durability) as hive:
        return asyncio.run(_measure(hive))


async def _measure(hive: Hive) -> float:
    async with hive.client() as client, asyncio.timeout(WITHIN_S):
        body = msgspec.json.encode({"min": 1, "max": 5, "template": TEMPLATE})
        await client.request("PUT", "/v1/pools/flooded", body)
        while (await client.get("/v1/pools/flooded"))["now"]["readings"]["bots_up"] == 0:  # noqa: ASYNC110 - it is looked at from outside
            await asyncio.sleep(LOOK_EVERY_S)
        began = time.time()
        lines = b"\n".join([b'{"content": "sleep 0.3", "pool": "flooded", "type": "other"}'] * FLOOD)
        await client.post("/v1/tasks/batch", lines, kind="application/x-ndjson")
        while not (done := await _of_others(client)):  # noqa: ASYNC110 - the same
            await asyncio.sleep(LOOK_EVERY_S)
        return round(min(done) - began, 2)


async def _of_others(client: Any) -> list[float]:
    """When tasks were given to bots that the pool launched for the flood."""
    page = await client.get("/v1/tasks?bot=flooded-2&limit=200")
    return [
        datetime.fromisoformat(attempt["assigned_at"]).timestamp()
        for task in page["items"]
        for attempt in task["attempts"]
        if attempt["bot"] == "flooded-2"
    ]
