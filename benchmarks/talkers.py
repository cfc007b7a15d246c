"""Bots that talk to each other, each a process with the SDK, and one at the other end of a pipe."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from benchmarks.hive import ROOT, Hive
from benchmarks.talker import Hear, Heard, Order, Said

T = TypeVar("T")

UP_WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.02
ANSWER_WITHIN_S: Final = 180.0
LINE_BYTES_MAX: Final = 16 * 1024 * 1024


class Talker:
    """One of them."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    async def say(self, order: Order) -> Said:
        """Have it send."""
        return await self._ask(order, Said)

    async def hear(self, count: int) -> Heard:
        """What it got, once it is so many."""
        return await self._ask(Hear(count), Heard)

    async def leave(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def _ask(self, order: Order, answer: type[T]) -> T:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(ANSWER_WITHIN_S):
            line = await self._process.stdout.readline()
        assert line, f"{self.name} has ended"
        return msgspec.json.decode(line, type=answer)


@contextlib.asynccontextmanager
async def talkers(hive: Hive, names: list[str]) -> AsyncIterator[list[Talker]]:
    """They are up, and gone at the end."""
    async with asyncio.TaskGroup() as group:
        begun = [group.create_task(_begin(hive, name)) for name in names]
    talking = [each.result() for each in begun]
    try:
        yield talking
    finally:
        for talker in talking:
            await talker.leave()


async def _begin(hive: Hive, name: str) -> Talker:
    creds = hive.data.path / "bots" / name / "bot.creds"
    async with hive.client() as client, asyncio.timeout(UP_WITHIN_S):
        await client.post("/v1/bots", {"name": name, "engine": "external"})
        while not creds.exists():  # noqa: ASYNC110 - its host makes them
            await asyncio.sleep(LOOK_EVERY_S)
        talker = Talker(name, await _process(hive, name, creds))
        while (await client.get(f"/v1/bots/{name}"))["state"] == "starting":  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
    return talker


async def _process(hive: Hive, name: str, creds: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.talker"),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HIVE_NATS_URL": hive.running.nats_url,
            "HIVE_CREDS": str(creds),
            "HIVE_BOT": name,
            "HIVE_LOG_LEVEL": "WARNING",
        },
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_BYTES_MAX,
    )
