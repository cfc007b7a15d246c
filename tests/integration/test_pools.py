"""Pools in a whole hive: a flood lets one grow, quiet lets it shrink, and nothing is lost."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.orchestrator.facts import BOT_CODEC, POOL_CODEC, TASK_CODEC
from shared.contracts.config import Config
from shared.contracts.naming import CONFIG_BUCKET
from shared.contracts.orchestrator.facts import AttemptLost, BotStopRequested, TaskAssigned
from shared.contracts.orchestrator.pools import PoolScaled
from shared.contracts.scaling import Scaling
from shared.runtime.connection import connect
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.settings import load
from shared.runtime.store import Stored
from tests.support.embedded import EmbeddedHive, embedded_hive, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FLOOD = 200
SCALED_UP_WITHIN_S = 2.0
QUICK = Scaling(up_pause_s=1.0, down_pause_s=1.0, idle_s=2.0, cpu_max=1.0, memory_max=1.0)
"""As by default, but for the waits; and whatever else this machine does."""


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[EmbeddedHive]:
    async with embedded_hive(tmp_path) as hive:
        yield hive


async def configure(hive: EmbeddedHive, scaling: Scaling) -> None:
    """What an operator would say."""
    connection = await connect(_ops(hive))
    publisher = Publisher(connection)
    await publisher.start()
    try:
        await publisher.publish(f"$KV.{CONFIG_BUCKET}.current", msgspec.json.encode(Config(scaling=scaling)))
    finally:
        await publisher.stop()
        await connection.close()


def _ops(hive: EmbeddedHive) -> Any:
    running = hive.running()
    creds = hive.data.keys / "ops.creds"
    return load({}, sender="ops", nats_url=running.nats_url, creds=creds, data=hive.data.path)


async def log(hive: EmbeddedHive, *kinds: str) -> list[Stored]:
    connection = await connect(_ops(hive))
    try:
        store = JetStreamStore(connection, Publisher(connection))
        last = max([await store.version(kind, "*") for kind in kinds])
        commits: list[Stored] = []
        async for batch in store.follow(kinds, 0):
            commits += batch
            if batch[-1].sequence >= last:
                break
        return commits
    finally:
        await connection.close()


async def pool(client: httpx.AsyncClient) -> Any:
    return (await client.get("/v1/pools/coders")).json()


async def test_a_flood_lets_a_pool_grow_and_quiet_lets_it_shrink(hive: EmbeddedHive) -> None:
    await configure(hive, QUICK)
    template = {"engine": "shell", "slots": 2, "allow": ["sleep"]}
    async with hive.client() as client:
        asked = await client.put("/v1/pools/coders", json={"min": 1, "max": 5, "template": template})
        assert asked.status_code == 200, asked.text

        async def is_up() -> bool:
            return bool((await pool(client))["now"]["readings"]["bots_up"] == 1)

        await eventually(is_up, 20)
        lines = "\n".join(['{"content": "sleep 0.3", "pool": "coders", "type": "other"}'] * FLOOD)
        began = time.time()
        sent = await client.post(
            "/v1/tasks/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert sent.status_code in {200, 201, 202, 207}, sent.text

        async def all_done() -> bool:
            done = await client.get("/v1/tasks", params={"state": "completed", "limit": 200})
            return len(done.json()["items"]) == FLOOD

        async def is_small_again() -> bool:
            now = await pool(client)
            return bool(now["size"] == 1 and not now["leaving"])

        await eventually(all_done, 120)
        await eventually(is_small_again, 60)
        names = {bot["name"] for bot in (await client.get("/v1/bots")).json()["items"]}
    assert len(names) == 1  # who was given up is gone for good

    commits = await log(hive, "pool", "bot", "task")
    sizes = [
        (fact, stored.commit.at)
        for stored in commits
        if stored.aggregate == "pool"
        for fact in POOL_CODEC.decode_all(stored.commit.facts)
        if isinstance(fact, PoolScaled) and fact.decision != "hold"
    ]
    assert all(1 <= fact.after <= 5 for fact, _ in sizes)
    assert max(fact.after for fact, _ in sizes) == 5
    grown = [fact for fact, _ in sizes if fact.code == "queue"]
    new: set[str] = {bot for fact in grown for bot in fact.bots}
    scale_up_s = _first_task_of(commits, new) - began
    print(f"scale_up_s {scale_up_s:.2f}")
    assert scale_up_s < 5 * SCALED_UP_WITHIN_S
    assert not [fact for fact in _facts(commits, "task", TASK_CODEC) if isinstance(fact, AttemptLost)]
    assert _stopped_while_busy(commits) == []


async def test_what_is_wrong_with_a_pool_is_said(hive: EmbeddedHive) -> None:
    async with hive.client() as client:
        missing = await client.put("/v1/pools/coders", json={"min": 1, "max": 5})
        assert (missing.status_code, missing.json()["code"]) == (422, "template_missing")
        bounds = {"min": 5, "max": 2, "template": {"engine": "echo"}}
        wrong = await client.put("/v1/pools/coders", json=bounds)
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/min")
        unknown = await client.get("/v1/pools/coders/decisions")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "pool_not_found")

        outside = {"engine": "shell", "workspace": str(hive.data.path.parent)}
        await client.put("/v1/pools/coders", json={"max": 5, "template": outside})
        await configure(hive, QUICK)

        async def is_broken() -> bool:
            return bool((await pool(client))["now"]["readings"].get("broken") == 1)

        await eventually(is_broken, 20)
        lines = "\n".join(['{"content": "pwd", "pool": "coders", "type": "other"}'] * 20)
        await client.post("/v1/tasks/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})

        async def is_said() -> bool:
            decided = (await client.get("/v1/pools/coders/decisions")).json()["items"]
            return decided[0]["code"] == "broken" and "20 tasks wait" in decided[0]["reason"]

        await eventually(is_said, 20)
        first = (await client.get("/v1/pools/coders/decisions", params={"limit": 1})).json()
        rest = await client.get("/v1/pools/coders/decisions", params={"cursor": first["next_cursor"]})
        assert [each["code"] for each in rest.json()["items"]] == ["below_min"]


def _facts(commits: list[Stored], kind: str, codec: Any) -> list[Any]:
    return [
        fact
        for stored in commits
        if stored.aggregate == kind
        for fact in codec.decode_all(stored.commit.facts)
    ]


def _first_task_of(commits: list[Stored], bots: set[str]) -> float:
    """When a task was first given to one of them."""
    return min(
        stored.commit.at.timestamp()
        for stored in commits
        if stored.aggregate == "task"
        for fact in TASK_CODEC.decode_all(stored.commit.facts)
        if isinstance(fact, TaskAssigned) and fact.bot_id in bots
    )


def _stopped_while_busy(commits: list[Stored]) -> list[str]:
    """Bots that were told to stop while they held something."""
    holds: dict[str, str] = {}
    wrong: list[str] = []
    for stored in sorted(commits, key=lambda each: each.sequence):
        if stored.aggregate == "task":
            for fact in TASK_CODEC.decode_all(stored.commit.facts):
                if isinstance(fact, TaskAssigned):
                    holds[fact.task_id] = fact.bot_id
                elif type(fact).__name__ in {
                    "TaskCompleted",
                    "AttemptFailed",
                    "AttemptLost",
                    "AssignmentWithdrawn",
                }:
                    holds.pop(fact.task_id, None)
        elif stored.aggregate == "bot":
            wrong += [
                told.bot_id
                for told in BOT_CODEC.decode_all(stored.commit.facts)
                if isinstance(told, BotStopRequested) and told.bot_id in holds.values()
            ]
    return wrong
