"""The disk is full, really (ENOSPC): nothing accepted is lost or doubled, and the hive recovers by itself."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.crash.ledger import Ledger, Said
from tests.support.embedded import ROOT, EmbeddedHive, embedded_hive, eventually

WIDE = "4g"  # as large as the streams' limits ask for; nothing of it is used until it is written
LEFT_BYTES = 3_000_000
PAGE = 4096
WRITERS = 4
REFUSALS = 12
REFUSED_WITHIN_S = 60.0
RECOVERED_WITHIN_S = 60.0
ENDS_WITHIN_S = 90.0

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


class Disk:
    """A small disk of the test's own, which can shrink to what is used, and grow again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.folder)], check=True, capture_output=True)

    def make(self) -> None:
        self._mount("-t", "tmpfs", "-o", f"size={WIDE},mode=0700", "hive-test")

    def shrink(self) -> None:
        stat = os.statvfs(self.folder)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        self._mount("-o", f"remount,size={(used + LEFT_BYTES) // PAGE * PAGE}")

    def grow(self) -> None:
        self._mount("-o", f"remount,size={WIDE}")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture(params=["nats", "."], ids=["the broker's store", "the whole data directory"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    folder = tmp_path / "hive" / request.param
    folder.mkdir(parents=True)
    disk = Disk(folder)
    try:
        disk.make()
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"a file system cannot be mounted here: {error}")
    yield disk
    disk.close()


class Writer:
    """Submits with idempotency keys, again and again until it is told yes; counts what else it is told."""

    def __init__(self, name: str, ledger: Ledger, refusals: Counter[str]) -> None:
        self._name = name
        self._ledger = ledger
        self._refusals = refusals

    async def write(self, hive: EmbeddedHive, stop: asyncio.Event) -> None:
        number = 0
        async with hive.client() as client:
            while not stop.is_set():
                number += 1
                await self._submit(client, f"{self._name}-{number}-{'x' * 500}")

    async def _submit(self, client: httpx.AsyncClient, key: str) -> None:
        body = {"type": "other", "content": f"echo of {key}", "retry": {"attempts_max": 20}}
        headers = {"Idempotency-Key": key[:40]}
        while True:
            self._ledger.asked(key)
            try:
                answer = await client.post("/v1/tasks", json=body, headers=headers)
            except httpx.HTTPError:  # its process ended, as it may: the same key, again
                self._refusals["no answer"] += 1
                await asyncio.sleep(0.5)
                continue
            if answer.status_code in {200, 201, 202}:
                self._ledger.answered(Said.of(key, answer))
                return
            assert answer.status_code in {429, 503, 507}, (answer.status_code, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            wait_s = int(answer.headers["retry-after"])
            self._refusals[f"{answer.status_code} {answer.json()['code']}"] += 1
            await asyncio.sleep(min(wait_s, 1))


@asynccontextmanager
async def writers(hive: EmbeddedHive, ledger: Ledger, refusals: Counter[str]) -> AsyncIterator[None]:
    """At work as long as the block runs."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(WRITERS):
            group.create_task(Writer(f"w{number}", ledger, refusals).write(hive, stop))
        yield
        stop.set()


async def test_a_full_disk_loses_and_doubles_nothing_and_the_hive_recovers(
    disk: Disk, tmp_path: Path
) -> None:
    ledger, refusals = Ledger(), Counter[str]()
    async with embedded_hive(tmp_path) as hive:
        for bot in ("alpha", "beta"):
            await hive.launch(bot, engine="echo", slots=3, restart={"crashes_max": 100, "backoff_max_s": 1.0})
        async with writers(hive, ledger, refusals):
            await eventually(lambda: _at_least(len(ledger.accepted), 20), REFUSED_WITHIN_S)
            disk.shrink()
            await eventually(lambda: _at_least(refusals.total(), REFUSALS), REFUSED_WITHIN_S)
            before = len(ledger.accepted)
            status, doctor = await _typed(hive, "status"), await _typed(hive, "doctor")
            assert (5, True) == (status.returncode, "The broker stores no more" in status.stderr), status
            assert (1, True) == (doctor.returncode, "it stores no more" in doctor.stdout), doctor

            disk.grow()

            await eventually(lambda: _at_least(len(ledger.accepted), before + 50), RECOVERED_WITHIN_S)
        await eventually(lambda: _all_ended(hive, ledger), ENDS_WITHIN_S)
        commits = await hive.log()
        print(f"{ledger.summary()}; refused: {dict(refusals)}\n{hive.said()}")
    ledger.check(commits)


async def _typed(hive: EmbeddedHive, *words: str) -> subprocess.CompletedProcess[str]:
    """What a person is told."""
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "cli", *words, f"--data={hive.data.path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )


async def _at_least(count: int, wanted: int) -> bool:
    return count >= wanted


async def _all_ended(hive: EmbeddedHive, ledger: Ledger) -> bool:
    async with hive.client() as client:
        for task_id in list(ledger.open):
            answer = await client.get(f"/v1/tasks/{task_id}")
            if answer.status_code != 200 or answer.json()["state"] != "completed":
                return False
            ledger.seen_ended(task_id)
    return True
