"""A hive on three brokers that hold copies of everything: any of them may die, the leader, too."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.checkup import cluster_checks
from tests.crash.ledger import Ledger
from tests.crash.test_crash import Writer
from tests.support.cluster import NAMES, BrokerCluster
from tests.support.embedded import EmbeddedHive, embedded_hive, eventually

FORMED_WITHIN_S = 60.0
CAUGHT_UP_WITHIN_S = 60.0
ENDS_WITHIN_S = 60.0
LATENCY_MS_MAX = 1_000.0  # p50, one in flight, long after an election; the machine that measures is shared
WRITERS = 3
BETWEEN_S = 2.0

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[BrokerCluster]:
    brokers = BrokerCluster(tmp_path / "cluster")
    brokers.start()
    yield brokers
    brokers.close()


async def test_a_broker_of_three_may_die_under_load_and_so_may_the_leader(
    brokers: BrokerCluster, tmp_path: Path
) -> None:
    await eventually(lambda: _all_healthy(brokers), FORMED_WITHIN_S)
    ledger = Ledger()
    more = (f"--nats={brokers.urls}", f"--creds-dir={brokers.keys}", "--replicas=3")
    async with embedded_hive(tmp_path, more=more, keys=brokers.keys) as hive:
        for bot in ("alpha", "beta"):
            await hive.launch(bot, engine="echo", slots=3, restart={"crashes_max": 100, "backoff_max_s": 1.0})
        calm = await latency_ms(hive, ledger)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(Writer(hive, f"w{number}", ledger, random.Random(number)).write(stop))
            for victim in ("the leader", "a follower"):
                await asyncio.sleep(BETWEEN_S)
                leader = await asyncio.to_thread(brokers.leader)
                name = next(one for one in NAMES if (one == leader) == (victim == "the leader"))
                accepted, killed_at = len(ledger.accepted), time.monotonic()
                brokers.kill(name)
                await eventually(lambda: _more(ledger, accepted + 20), ENDS_WITHIN_S)  # noqa: B023
                print(f"{victim}: 20 more accepted {time.monotonic() - killed_at:.1f} s after its end")
                brokers.start(name)
                await eventually(lambda: _all_healthy(brokers), CAUGHT_UP_WITHIN_S)
            stop.set()
        await eventually(lambda: _all_ended(hive, ledger), ENDS_WITHIN_S)
        after = await latency_ms(hive, ledger)
        commits = await hive.log()
        checks = await cluster_checks(hive.running())
    print(f"{ledger.summary()}; latency p50 {calm:.1f} ms before, {after:.1f} ms after")
    assert ledger.accepted, "nothing was accepted: the test shows nothing"
    ledger.check(commits)
    assert after < LATENCY_MS_MAX
    assert {check.level for check in checks} <= {"ok", "warn"}, checks


async def latency_ms(hive: EmbeddedHive, ledger: Ledger, count: int = 15) -> float:
    """From the question to the result, one in flight: the median."""
    took = []
    async with hive.client() as client:
        for number in range(count):
            ledger.asked(key := f"probe-{len(ledger.asks)}-{number}")
            began = time.monotonic()
            answer = await client.post(
                "/v1/tasks", params={"wait": 10}, json={"type": "other", "content": f"echo of {key}"}
            )
            assert answer.json()["state"] == "completed", answer.text
            took.append(1_000 * (time.monotonic() - began))
    return statistics.median(took)


async def _all_healthy(brokers: BrokerCluster) -> bool:
    return all([await asyncio.to_thread(brokers.healthy, name) for name in NAMES])


async def _more(ledger: Ledger, wanted: int) -> bool:
    return len(ledger.accepted) >= wanted


async def _all_ended(hive: EmbeddedHive, ledger: Ledger) -> bool:
    async with hive.client() as client:
        for task_id in list(ledger.open):
            answer = await client.get(f"/v1/tasks/{task_id}")
            if answer.status_code != 200 or answer.json()["state"] != "completed":
                return False
            ledger.seen_ended(task_id)
    return True
