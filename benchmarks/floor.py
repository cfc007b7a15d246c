"""The floor: what the broker alone takes for the durable messages of a task, with bare nats-py.

A task is five durable messages, each acknowledged before the next: command, commit, assignment, report and
commit. The commits are guarded by the sequence they expect, as ours are.
"""

import asyncio
import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import nats
from nats.aio.client import Client
from nats.errors import NoServersError
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StreamConfig

from shared.runtime.broker import server_binary

BODY: Final = b"x" * 200
TASKS_IN_FLIGHT: Final = 256
LOAD_WITHIN_S: Final = 120.0


@contextlib.contextmanager
def bare_server(folder: Path, durability: str) -> Iterator[Path]:
    """A nats-server with JetStream and no users, which writes its ports into the folder."""
    folder.mkdir(parents=True)
    sync = "sync_interval: always" if durability == "fsync" else ""
    conf = folder / "nats.conf"
    conf.write_text(
        f'host: 127.0.0.1\nport: -1\nports_file_dir: "{folder}"\n'
        f'jetstream {{ store_dir: "{folder / "store"}"\n{sync}\n}}\n'
    )
    with subprocess.Popen([server_binary(), "-c", conf], stderr=subprocess.DEVNULL) as server:
        try:
            yield folder
        finally:
            server.terminate()


def measure(folder: Path, durability: str, tasks: int) -> tuple[float, float]:
    """(tasks a second with many in flight, p50 in ms of one at a time)."""
    with bare_server(folder, durability):
        return asyncio.run(_load(folder, tasks))


async def _load(folder: Path, tasks: int) -> tuple[float, float]:
    async with asyncio.timeout(LOAD_WITHIN_S):
        client = await _connect(folder)
        js = client.jetstream()
        queue = RetentionPolicy.WORK_QUEUE
        await js.add_stream(StreamConfig(name="CMD", subjects=["cmd.>"], retention=queue, allow_direct=True))
        await js.add_stream(StreamConfig(name="EVENTS", subjects=["evt.>"], allow_direct=True))
        await js.add_stream(StreamConfig(name="RUN", subjects=["run.>"], retention=queue, allow_direct=True))
        alone = [await _timed(js, f"alone-{number}") for number in range(200)]
        began = time.perf_counter()
        numbers = iter(range(tasks))
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS_IN_FLIGHT):
                group.create_task(_one_after_another(js, numbers))
        took = time.perf_counter() - began
        await client.close()
    return tasks / took, statistics.median(alone) * 1000


async def _connect(folder: Path) -> Client:
    while True:
        try:
            return await nats.connect(_address(folder), max_reconnect_attempts=0)
        except (NoServersError, OSError, StopIteration, msgspec.DecodeError):
            await asyncio.sleep(0.01)


def _address(folder: Path) -> str:
    ports = msgspec.json.decode(next(folder.glob("*.ports")).read_bytes(), type=dict[str, list[str]])
    return ports["nats"][0]


async def _one_after_another(js: JetStreamContext, numbers: Iterator[int]) -> None:
    for number in numbers:
        await _task(js, f"task-{number}")


async def _timed(js: JetStreamContext, name: str) -> float:
    began = time.perf_counter()
    await _task(js, name)
    return time.perf_counter() - began


async def _task(js: JetStreamContext, name: str) -> None:
    await js.publish(f"cmd.submit.{name}", BODY)
    stored = await js.publish(f"evt.task.{name}", BODY, headers=_after(0))
    await js.publish(f"run.{name}", BODY)
    await js.publish(f"cmd.report.{name}", BODY)
    await js.publish(f"evt.task.{name}", BODY, headers=_after(stored.seq))


def _after(sequence: int) -> dict[str, str]:
    return {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
