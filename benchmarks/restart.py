"""How long services take to be there again with a long log: many ended tasks, and a start."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks import processes
from shared.contracts import naming
from shared.contracts.orchestrator.facts import (
    Candidate,
    Decision,
    Output,
    TaskAssigned,
    TaskCompleted,
    TaskFact,
    TaskSubmitted,
)
from shared.contracts.orchestrator.queries import GetCounts
from shared.contracts.scheduler.queries import GetTypePerformance
from shared.contracts.words import BotId, Priority, TaskId, TaskType
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Commit
from shared.runtime import clock
from shared.runtime.broker import BrokerConfig, BrokerProcess
from shared.runtime.connection import Connection, connect
from shared.runtime.credentials import Authority, create_authority
from shared.runtime.publish import Publisher
from shared.runtime.queries import Asker
from shared.runtime.settings import Settings
from shared.runtime.topology import ensure

ROOT: Final = Path(__file__).parents[1]
TASKS: Final = 200_000
WRITERS: Final = 256
WITHIN_S: Final = 600.0
STORE_BYTES_MAX: Final = 8 * 1024**3
MB: Final = 1_000_000
FACTS_PER_TASK: Final = 3
ALPHA: Final = BotId("bench-0")


def measure(folder: Path, tasks: int = TASKS) -> dict[str, Any]:
    """Seconds until an orchestrator answers, without a view and with the one it left; and its memory.

    And how many facts of tasks a scheduler folds in a second when it builds all it knows from the log.
    """
    authority = create_authority(folder / "keys")
    config = BrokerConfig(
        authority=authority, store_dir=folder / "store", durability="os", file_bytes_max=STORE_BYTES_MAX
    )
    broker = BrokerProcess.start(config, folder / "run", folder / "nats.log")
    try:
        broker.wait_ready()
        place = _Place(authority, broker.url, folder)
        asyncio.run(_fill(place, tasks))
        first = asyncio.run(_start(place, tasks))
        again = asyncio.run(_start(place, tasks))
        fold_s = asyncio.run(_fold(place, tasks))
    finally:
        broker.stop()
    label = f"{tasks // 1000}k"
    starts = {
        f"{name}_{label}_{unit}": value
        for name, start in (("first_start", first), ("restart", again))
        for unit, value in start.items()
    }
    return {**starts, "scheduler_facts_per_s": round(FACTS_PER_TASK * tasks / fold_s)}


class _Place:
    def __init__(self, authority: Authority, url: str, folder: Path) -> None:
        self.authority = authority
        self.url = url
        self.folder = folder

    def settings(self, sender: str) -> Settings:
        return Settings(
            sender=sender,
            instance="bench",
            data=self.folder / "data",
            nats_url=self.url,
            creds=self.authority.creds_path(sender),
            durability="os",
        )


async def _fill(place: _Place, tasks: int) -> None:
    """Write the commits of tasks that were given to a bot at once and completed."""
    ops = await connect(place.settings("ops"))
    await ensure(ops)
    await ops.close()
    owner = await connect(place.settings("svc-orchestrator"))
    publisher = Publisher(owner)
    await publisher.start()
    numbers = iter(range(tasks))
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(_write_each(publisher, numbers))
    await publisher.stop()
    await owner.close()


async def _write_each(publisher: Publisher, numbers: Iterator[int]) -> None:
    for number in numbers:
        task_id = TaskId(f"bench-{number:08}")
        subject = naming.event_subject("task", task_id)
        placed = await publisher.publish(
            subject, _commit(task_id, "a", _submitted(task_id), _assigned(task_id))
        )
        await publisher.publish(subject, _commit(task_id, "b", _completed(task_id, placed.seq)))


def _commit(task_id: TaskId, name: str, *facts: TaskFact) -> bytes:
    return encode(
        Commit(
            id=f"{task_id}-{name}",
            at=clock.now(),
            actor="bench",
            cause=f"{task_id}-{name}-cause",
            chain=task_id,
            facts=[msgspec.Raw(encode(fact)) for fact in facts],
        )
    )


def _submitted(task_id: TaskId) -> TaskSubmitted:
    return TaskSubmitted(
        task_id=task_id,
        type=TaskType.OTHER,
        type_reason="given",
        content="x" * 200,
        priority=Priority.P2,
        submitter="bench",
        body_hash="0" * 64,
        timeout_s=60.0,
    )


def _assigned(task_id: TaskId) -> TaskAssigned:
    decision = Decision(candidates=[Candidate(bot_id=ALPHA, free=3)], candidates_total=1)
    return TaskAssigned(task_id=task_id, bot_id=ALPHA, attempt=1, decision=decision)


def _completed(task_id: TaskId, token: int) -> TaskCompleted:
    now = clock.now()
    return TaskCompleted(
        task_id=task_id,
        bot_id=ALPHA,
        token=token,
        attempt=1,
        started_at=now,
        ended_at=now,
        output=Output(text="ok", size_bytes=2),
    )


async def _start(place: _Place, tasks: int) -> dict[str, float]:
    """From the start of the process until it counts every task: seconds, of CPU too; and its memory then."""
    gateway = await connect(place.settings("gateway"))
    began = time.perf_counter()
    try:
        with _service(place, "orchestrator") as process:
            await _counts_all(gateway, tasks)
            return {
                "s": round(time.perf_counter() - began, 2),
                "cpu_s": round(processes.cpu_s(process.pid), 2),
                "rss_mb": round(processes.rss_bytes(process.pid) / MB, 1),
            }
    finally:
        await gateway.close()


async def _counts_all(gateway: Connection, tasks: int) -> None:
    ask = Asker(gateway)
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(Unavailable):
                if (await ask(GetCounts())).tasks.get("completed") == tasks:
                    return
            await asyncio.sleep(0.02)


async def _fold(place: _Place, tasks: int) -> float:
    """From the start of a scheduler that knows nothing until it counts every task, in seconds."""
    gateway = await connect(place.settings("gateway"))
    ask, began = Asker(gateway), time.perf_counter()
    try:
        with _service(place, "scheduler"):
            async with asyncio.timeout(WITHIN_S):
                while True:
                    with contextlib.suppress(Unavailable):
                        known = (await ask(GetTypePerformance(type=TaskType.OTHER))).bots
                        if sum(bot.samples for bot in known) == tasks:
                            return time.perf_counter() - began
                    await asyncio.sleep(0.02)
    finally:
        await gateway.close()


@contextlib.contextmanager
def _service(place: _Place, name: str) -> Iterator[subprocess.Popen[bytes]]:
    settings = place.settings(f"svc-{name}")
    environment = {
        **os.environ,
        "HIVE_NATS_URL": settings.nats_url,
        "HIVE_CREDS": str(settings.creds),
        "HIVE_DATA": str(settings.data),
        "HIVE_INSTANCE": settings.instance,
        "HIVE_DURABILITY": settings.durability,
    }
    with (place.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
