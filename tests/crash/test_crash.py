"""Everything is killed at seeded moments amid tasks and mail: nothing accepted is lost, nothing ends twice.

HIVE_CRASH_SEED repeats a run; HIVE_CRASH_KILLS makes it longer.
"""

import asyncio
import os
import random
import time
from pathlib import Path

import httpx
import pytest

from tests.crash.diary import check as check_letters
from tests.crash.ledger import Ledger, Said
from tests.crash.mail import TALKERS, Mail, correspond
from tests.support.embedded import EmbeddedHive, embedded_hive, eventually, kill

SEED = int(os.environ.get("HIVE_CRASH_SEED", str(time.time_ns() % 1_000_000)))
KILLS = int(os.environ.get("HIVE_CRASH_KILLS", "20"))
WRITERS = 4
BOTS = ("alpha", "beta", "gamma")
VICTIMS = ("gateway", "orchestrator", "messenger", "bots", "nats-server", *BOTS, *TALKERS)
PAUSE_S = (0.3, 1.6)
ENDS_WITHIN_S = 120.0

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


class Writer:
    """Submits until it is told to stop; asks again, with the same key, until it has an answer."""

    def __init__(self, hive: EmbeddedHive, name: str, ledger: Ledger, chance: random.Random) -> None:
        self._hive = hive
        self._name = name
        self._ledger = ledger
        self._chance = chance

    async def write(self, stop: asyncio.Event) -> None:
        number = 0
        async with self._hive.client() as client:
            while not stop.is_set():
                number += 1
                await self._submit(client, f"{self._name}-{number}")

    async def _submit(self, client: httpx.AsyncClient, key: str) -> None:
        body = {"type": "other", "content": f"echo of {key}", "retry": {"attempts_max": 20}}
        params = {"wait": 2} if self._chance.random() < 0.3 else {}
        while True:
            self._ledger.asked(key)
            try:
                answer = await client.post(
                    "/v1/tasks", json=body, params=params, headers={"Idempotency-Key": key}
                )
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code in {200, 201, 202}:
                self._ledger.answered(Said.of(key, answer))
                return
            assert answer.status_code in {429, 503}, (answer.status_code, answer.text)
            await asyncio.sleep(0.05)


async def _victim(hive: EmbeddedHive, mail: Mail, who: str) -> int | None:
    """The process id of a victim now, if it has one."""
    running = hive.running()
    if who == "nats-server":
        return running.broker_pid
    if who in TALKERS:
        return mail.pid(who)
    if who not in BOTS:
        return running.services.get(who)
    async with hive.client() as client:
        try:
            answer = await client.get(f"/v1/bots/{who}")
        except httpx.HTTPError:
            return None
    pid: int | None = answer.json().get("pid") if answer.status_code == 200 else None
    return pid


async def test_nothing_accepted_is_lost_and_nothing_ends_twice(tmp_path: Path) -> None:
    print(f"HIVE_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    ledger = Ledger()
    kills: list[str] = []
    async with embedded_hive(tmp_path) as hive:
        for bot in BOTS:
            await hive.launch(bot, engine="echo", slots=3, restart={"crashes_max": 100, "backoff_max_s": 1.0})
        stop = asyncio.Event()
        async with correspond(hive, tmp_path, SEED, stop) as mail, asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                writer = Writer(hive, f"w{number}", ledger, random.Random(SEED + number))
                group.create_task(writer.write(stop))
            while len(kills) < KILLS:
                await asyncio.sleep(chance.uniform(*PAUSE_S))
                who = chance.choice(VICTIMS)
                pid = await _victim(hive, mail, who)
                if pid is not None and kill(pid):
                    kills.append(who)
            stop.set()
            await eventually(lambda: _all_ended(hive, ledger), ENDS_WITHIN_S)
            await eventually(mail.all_ended, ENDS_WITHIN_S)
        commits = await hive.log()
    print(f"{len(kills)} kills ({', '.join(kills)}), {ledger.summary()}")
    assert ledger.accepted, "nothing was accepted: the test shows nothing"
    ledger.check(commits)
    ends = check_letters(commits, mail.diaries())
    print(f"messages: {dict(ends)}")
    assert ends["MessageRead"], "no message was read: the test shows nothing"


async def _all_ended(hive: EmbeddedHive, ledger: Ledger) -> bool:
    async with hive.client() as client:
        for task_id in list(ledger.open):
            answer = await client.get(f"/v1/tasks/{task_id}")
            if answer.status_code != 200 or answer.json()["state"] != "completed":
                return False
            ledger.seen_ended(task_id)
    return True
