"""What is measured: speed in one durability mode, a cold start, an idle hive, two hundred idle bots."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import floor, load, messages, processes
from benchmarks.hive import BOT, BROKER, Hive, started

RUNS: Final = 3
MANY_BOTS: Final = 200
SETTLE_S: Final = 5.0
IDLE_S: Final = 20.0
MB: Final = 1_000_000
PERCENT: Final = 100


def speed(folder: Path, durability: str, tasks: int) -> dict[str, Any]:
    """Throughput and latency in one durability mode, and the floor beside them; medians of three."""
    bare, bare_ms = floor.measure(folder / "floor", durability, tasks)
    with started(folder / "hive", durability) as hive:
        measured = asyncio.run(_speed(hive, tasks))
    return {**measured, "floor_tasks_per_s": round(bare), "floor_latency_ms": {"p50": round(bare_ms, 2)}}


async def _speed(hive: Hive, tasks: int) -> dict[str, Any]:
    await load.launch(hive, load.BOTS)
    await load.batch(hive, tasks // 10)  # what a hive does only once is done
    took = sorted(await load.one_at_a_time(hive))
    before = processes.cpu_of(hive.groups())
    batches = [await load.batch(hive, tasks) for _ in range(RUNS)]
    cpu = processes.cpu_us_each(before, processes.cpu_of(hive.groups()), tasks * RUNS)
    singles = [await load.one_by_one(hive, tasks) for _ in range(RUNS)]
    cuts = statistics.quantiles(took, n=100)
    return {
        "tasks_per_s": round(statistics.median(batches)),
        "http_tasks_per_s": round(statistics.median(singles)),
        "latency_ms": {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2)},
        "cpu_us_per_task": cpu,
    }


def talk(folder: Path, durability: str) -> dict[str, Any]:
    """Messages between bots in one durability mode."""
    with started(folder, durability) as hive:
        return asyncio.run(messages.speed(hive))


def websockets(folder: Path) -> dict[str, float]:
    """How much memory of the gateway an open WebSocket takes, in KB of 1,024 bytes."""
    with started(folder, "fsync") as hive:
        return asyncio.run(messages.sockets(hive))


def cold_start(folder: Path) -> float:
    """Seconds from typing `hive up` to the result of the first task, its bot launched in between."""
    return round(statistics.median(_cold(folder / str(run)) for run in range(RUNS)), 2)


def _cold(folder: Path) -> float:
    began = time.perf_counter()
    with started(folder, "fsync") as hive:
        asyncio.run(_first_task(hive))
        return time.perf_counter() - began


async def _first_task(hive: Hive) -> None:
    await load.launch(hive, 1)
    await load.one_at_a_time(hive, 1)


def idle(folder: Path) -> dict[str, Any]:
    """Memory of an idle hive without bots and broker; then two hundred idle bots, and the CPU of it all."""
    with started(folder, "fsync") as hive:
        time.sleep(SETTLE_S)
        of_each = _pss(hive)
        asked_s = asyncio.run(load.launch(hive, MANY_BOTS))
        time.sleep(SETTLE_S)
        before = processes.cpu_of(hive.groups())
        time.sleep(IDLE_S)
        after = processes.cpu_of(hive.groups())
        idle_pct = {name: (after[name] - before[name]) / IDLE_S * PERCENT for name in before}
        bots = hive.groups()[BOT]
        return {
            "idle_pss_mb": round(sum(size for name, size in of_each.items() if name != BROKER), 1),
            "idle_pss_mb_of": of_each,
            "bot_pss_mb": round(statistics.mean(map(processes.pss_bytes, bots)) / MB, 1),
            "bot_rss_mb": round(statistics.mean(map(processes.rss_bytes, bots)) / MB, 1),
            "bots_200_start_s": round(asked_s, 2),
            "bots_200_idle_cpu_pct": round(sum(idle_pct.values()), 1),
            "bots_200_idle_cpu_pct_of": {name: round(share, 2) for name, share in idle_pct.items()},
            "bots_200_pss_mb_of": _pss(hive),
        }


def _pss(hive: Hive) -> dict[str, float]:
    return {name: round(sum(map(processes.pss_bytes, pids)) / MB, 1) for name, pids in hive.groups().items()}
