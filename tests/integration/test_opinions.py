"""Opinions of bots in a whole hive: they come from what bots did, and nothing waits for them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.embedded import EmbeddedHive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
WITHIN_S = 30.0


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[EmbeddedHive]:
    one = EmbeddedHive(tmp_path)
    one.start()
    try:
        await one.ready()
        for name in ("alpha", "beta"):
            await one.launch(name, engine="echo")
        yield one
    finally:
        one.stop()


async def work(client: httpx.AsyncClient, count: int) -> None:
    """So many tasks, from submission to their good end."""
    for number in range(count):
        body = {"content": f"task {number}", "type": "code"}
        done = await client.post("/v1/tasks", params={"wait": 20}, json=body)
        assert done.json()["state"] == "completed", done.text


async def known(client: httpx.AsyncClient, samples: int) -> list[str]:
    """The bots in their order, as soon as so many ends are counted."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            answer = await client.get("/v1/recommendations", params={"type": "code"})
            if answer.status_code == 200:
                ranked = answer.json()["ranked"]
                if sum(each["standing"]["samples"] for each in ranked) == samples:
                    return [each["bot"] for each in ranked]
            await asyncio.sleep(0.05)


async def test_a_hive_without_its_scheduler_works_on_and_it_learns_afterwards(hive: EmbeddedHive) -> None:
    async with hive.client() as client:
        await work(client, 5)
        assert sorted(await known(client, 5)) == ["alpha", "beta"]

        scheduler = hive.running().services["scheduler"]
        os.kill(scheduler, signal.SIGSTOP)  # stopped, not ended: nobody starts another
        try:
            await work(client, 5)
            answer = await client.get("/v1/recommendations", params={"type": "code"})
            assert answer.status_code == 503
            assert (await client.get("/readyz")).status_code == 200
        finally:
            os.kill(scheduler, signal.SIGCONT)
        await known(client, 10)

        os.kill(scheduler, signal.SIGKILL)
        await work(client, 5)
        await known(client, 15)  # the next one counts each end once, too
