"""A bot that spawns five tasks and joins any, then all; whoever is killed meanwhile."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.words import ATTEMPTS_DEFAULT
from tests.integration.family_bot import PARTS
from tests.support.embedded import ROOT, EmbeddedHive, embedded_hive, eventually, kill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WITHIN_S = 60.0
RESULT = " ".join(f"PART {number}" for number in range(PARTS))


class House:
    """A hive with a parent's bot and one that does its children's work, at a word."""

    def __init__(self, hive: EmbeddedHive, folder: Path) -> None:
        self.hive = hive
        self.folder = folder
        self.processes: dict[str, Process] = {}

    async def launch(self, name: str) -> None:
        async with self.hive.client() as client:
            pool = "hands" if name == "hand" else "default"
            body = {"name": name, "engine": "external", "slots": PARTS, "pool": pool}
            answer = await client.post("/v1/bots", json=body)
            assert answer.status_code in {201, 202}, answer.text
        creds = self.hive.data.path / "bots" / name / "bot.creds"

        async def made() -> bool:
            return creds.exists()

        await eventually(made, WITHIN_S)
        await self.start(name)

    async def start(self, name: str) -> None:
        told = {
            "HIVE_BOT": name,
            "HIVE_NATS_URL": self.hive.running().nats_url,
            "HIVE_CREDS": str(self.hive.data.path / "bots" / name / "bot.creds"),
        }
        command = ["-m", "tests.integration.family_bot", name, str(self.folder)]
        if name == "documented":
            script = self.folder / "documented.py"
            page = (ROOT / "docs" / "bot-protocol.md").read_text()
            script.write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1])
            command, told["PYTHONPATH"] = [str(script)], str(ROOT)
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, env={**os.environ, **told}
        )

    async def submit(self, bot: str = "parent") -> str:
        async with self.hive.client() as client:
            retry = {"backoff_first_s": 0.1, "backoff_max_s": 0.1, "attempts_max": ATTEMPTS_DEFAULT}
            body = {"content": "all of it", "bot": bot, "retry": retry}
            answer = await client.post("/v1/tasks", json=body)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    async def task(self, task_id: str) -> Any:
        async with self.hive.client() as client:
            return (await client.get(f"/v1/tasks/{task_id}")).raise_for_status().json()

    async def tree(self, task_id: str) -> list[Any]:
        async with self.hive.client() as client:
            answer = await client.get(f"/v1/tasks/{task_id}/tree")
            return list(answer.raise_for_status().json()["nodes"])

    def notes(self) -> list[str]:
        notes = self.folder / "any"
        return notes.read_text().splitlines() if notes.exists() else []

    async def joined_any(self, times: int = 1) -> None:
        async def noted() -> bool:
            return len(self.notes()) >= times

        await eventually(noted, WITHIN_S)

    def go(self) -> None:
        (self.folder / "go").touch()

    async def ended(self, task_id: str, state: str = "completed") -> Any:
        async def has() -> bool:
            return bool((await self.task(task_id))["state"] == state)

        await eventually(has, WITHIN_S)
        return await self.task(task_id)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with embedded_hive(tmp_path) as hive:
        folder = tmp_path / "notes"
        folder.mkdir()
        made = House(hive, folder)
        try:
            await made.launch("parent")
            await made.launch("hand")
            yield made
        finally:
            for process in made.processes.values():
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def test_five_are_spawned_and_joined(house: House) -> None:
    task_id = await house.submit()
    await house.joined_any()
    assert house.notes() == ["1: 1"]
    nodes = await house.tree(task_id)
    assert [node["depth"] for node in nodes] == [0] + [1] * PARTS
    assert [node["content"] for node in nodes[1:]] == [f"part {number}" for number in range(PARTS)]

    house.go()
    task = await house.ended(task_id)

    assert task["output"]["text"] == RESULT
    children = [await house.task(node["id"]) for node in nodes[1:]]
    assert {child["submitter"] for child in children} == {task["submitter"]}
    assert {(child["parent"], child["root"]) for child in children} == {(task_id, task_id)}


async def test_the_documented_bot_spawns_and_joins(house: House) -> None:
    house.go()
    await house.launch("documented")
    task = await house.ended(await house.submit("documented"))
    assert task["output"]["text"] == RESULT


async def test_a_join_outlives_the_orchestrator_that_was_asked(house: House) -> None:
    task_id = await house.submit()
    await house.joined_any()
    assert kill(house.hive.running().services["orchestrator"])
    house.go()
    task = await house.ended(task_id)
    assert (task["output"]["text"], len(task["attempts"])) == (RESULT, 1)
    assert len(await house.tree(task_id)) == 1 + PARTS


async def test_the_next_attempt_finds_what_the_one_before_it_has_spawned(house: House) -> None:
    task_id = await house.submit()
    await house.joined_any()
    house.processes["parent"].kill()
    await house.processes["parent"].wait()
    await house.start("parent")
    await house.joined_any(times=2)
    assert house.notes() == ["1: 1", "2: 1"]
    house.go()
    task = await house.ended(task_id)
    assert (task["output"]["text"], len(task["attempts"])) == (RESULT, 2)
    assert len(await house.tree(task_id)) == 1 + PARTS


async def test_a_tree_is_cancelled_though_the_orchestrator_dies_of_it(house: House) -> None:
    task_id = await house.submit()
    await house.joined_any()
    async with house.hive.client() as client:
        answer = await client.post(f"/v1/tasks/{task_id}/cancel", params={"tree": True})
        assert answer.status_code in {200, 202}, answer.text
    assert kill(house.hive.running().services["orchestrator"])

    async def over() -> bool:
        return all(node["state"] in ("cancelled", "completed") for node in await house.tree(task_id))

    await eventually(over, WITHIN_S)
    states = sorted(node["state"] for node in await house.tree(task_id))
    assert states == ["cancelled"] * PARTS + ["completed"]
