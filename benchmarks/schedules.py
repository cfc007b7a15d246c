"""Ten thousand schedules, a hundred ticks a second: how late each tick is, by its own receipt."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks import load
from benchmarks.hive import Hive, started

SCHEDULES: Final = 10_000
PERIOD_S: Final = 100
"""Each is due so often, and spread over it by its jitter: SCHEDULES / PERIOD_S ticks a second."""
AT_ONCE: Final = 16
MEASURED_S: Final = 60.0
SAMPLE: Final = 5  # of the receipts, every fifth schedule's are read
BOTS: Final = 5


def measure(folder: Path, durability: str, count: int = SCHEDULES) -> dict[str, Any]:
    """Milliseconds that ticks are late, and how many there were."""
    with started(folder, durability) as hive:
        return asyncio.run(_measure(hive, count))


async def _measure(hive: Hive, count: int) -> dict[str, Any]:
    await load.launch(hive, BOTS)
    names = [f"bench-{number}" for number in range(count)]
    began = time.perf_counter()
    await _each(hive, iter(names), _add)
    added_s = time.perf_counter() - began
    await asyncio.sleep(PERIOD_S)  # until each has been due for the first time
    since = await _sequence(hive)
    await asyncio.sleep(MEASURED_S)
    receipts: list[dict[str, Any]] = []

    async def read(client: Any, name: str) -> None:
        page = await client.get(f"/v1/schedules/{name}/receipts?limit=200")
        receipts.extend(each for each in page["items"] if each["sequence"] > since)

    until = await _sequence(hive)
    await _each(hive, iter(names[::SAMPLE]), read)
    counted = [each for each in receipts if each["sequence"] <= until]
    unfired = [each for each in counted if each["outcome"] not in {"fired", "late"}]
    assert not unfired, unfired[0]
    late_ms = sorted(each["late_s"] * 1000 for each in counted)
    cuts = statistics.quantiles(late_ms, n=100)
    return {
        "added_per_s": round(count / added_s),
        "ticks_per_s": round(len(counted) * SAMPLE / MEASURED_S),
        "late_ms": {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(late_ms[-1], 1)},
    }


async def _sequence(hive: Hive) -> int:
    """Where the log stands: a run of a schedule, and its place."""
    async with hive.client() as client:
        await client.post("/v1/schedules/bench-0/run", {})
        page = await client.get("/v1/schedules/bench-0/receipts?limit=50")
        return max(int(each["sequence"]) for each in page["items"] if each["manual"])


async def _each(hive: Hive, names: Iterator[str], do: Any) -> None:
    async def work() -> None:
        async with hive.client() as client:
            for name in names:
                await do(client, name)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def _add(client: Any, name: str) -> None:
    schedule = {
        "name": name,
        "expression": f"@every {PERIOD_S}s",
        "jitter_s": PERIOD_S,
        "task": {**load.TASK, "content": "tick"},
    }
    await client.post("/v1/schedules", schedule)
