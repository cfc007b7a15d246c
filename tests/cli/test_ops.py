"""The container that answers for a stack's broker, as a process on a real one."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.holder import Holder
from tests.support.nats_server import LocalBroker

READY_WITHIN_S = 50.0


@asynccontextmanager
async def ops(broker: LocalBroker, tmp_path: Path) -> AsyncIterator[Process]:
    """It, when it has said that it is ready."""
    words = ("-m", "cli.ops", "--authority", str(broker.folder / "keys"))
    env = {**os.environ, "HIVE_NATS_URL": broker.url, "HIVE_DATA": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(sys.executable, *words, env=env, stdout=PIPE, stderr=PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while b"are there" not in (line := await process.stderr.readline()):
                assert line, "it ended before it was ready"
        yield process
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.nats
async def test_what_a_full_disk_left_in_the_queues_is_handed_out_when_it_starts(
    broker: LocalBroker, tmp_path: Path
) -> None:
    async with Holder(broker) as holder:
        async with ops(broker, tmp_path):
            await holder.take_one()
        async with ops(broker, tmp_path):
            await holder.is_given_it_as_if_new()


@pytest.mark.nats
async def test_what_a_full_disk_left_in_the_queues_is_handed_out_when_the_broker_is_started_anew(
    broker: LocalBroker, tmp_path: Path
) -> None:
    async with ops(broker, tmp_path), Holder(broker) as holder:
        await holder.take_one()
        broker.restart()
        await holder.is_given_it_as_if_new()
