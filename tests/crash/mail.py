"""Message traffic for the crash test: persons, and bots that talk to each other and are started again."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import httpx

from tests.crash.diary import TTL_SHORT_S, Asks, Diary, Sent
from tests.support.embedded import ROOT, EmbeddedHive

TALKERS = ("north", "south", "east")
PERSONS = 2
PRIORITIES = ("P0", "P1", "P2", "P3")
PAUSE_S = (0.02, 0.1)
AGAIN_S = 0.05


class Mail:
    """The talking bots and the persons of one hive."""

    def __init__(self, hive: EmbeddedHive, folder: Path, seed: int) -> None:
        self._hive = hive
        self._folder = folder
        self._seed = seed
        self._persons = Diary()
        self._processes: dict[str, Process] = {}
        self._over = False

    def pid(self, bot: str) -> int | None:
        """The process of a talking bot now, if it runs."""
        process = self._processes.get(bot)
        return process.pid if process is not None and process.returncode is None else None

    def diaries(self) -> dict[str, Diary]:
        """What everybody wrote down."""
        bots = {bot: Diary.of(self._folder / f"{bot}.diary") for bot in TALKERS}
        return {**bots, "persons": self._persons}

    async def all_ended(self) -> bool:
        """Whether every message has been read, has failed or has expired."""
        async with self._hive.client() as client:
            answer = await client.get("/v1/messaging/status")
        states = answer.json()["states"] if answer.status_code == 200 else {"pending": 1}
        return not states.get("pending") and not states.get("delivered")

    async def launch(self) -> None:
        """Let the bots' host make their credentials."""
        for bot in TALKERS:
            creds = self._creds(bot)
            async with self._hive.client() as client:
                answer = await client.post("/v1/bots", json={"name": bot, "engine": "external"})
            assert answer.status_code in {201, 202}, answer.text
            async with asyncio.timeout(30):
                while not creds.exists():
                    await asyncio.sleep(0.05)

    async def keep(self, bot: str) -> None:
        """Run a bot, and run it again when it was killed."""
        environment = {
            "PATH": os.environ["PATH"],
            "HIVE_NATS_URL": self._hive.running().nats_url,
            "HIVE_CREDS": str(self._creds(bot)),
            "HIVE_BOT": bot,
            "HIVE_TEST_BOTS": ",".join(TALKERS),
        }
        command = (sys.executable, "-m", "tests.crash.talking_bot", str(self._folder), str(self._seed))
        with (self._folder / f"{bot}.log").open("ab") as log:
            while not self._over:
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, env=environment, stdout=log, stderr=log
                )
                self._processes[bot] = process
                await process.wait()

    async def write(self, name: str, stop: asyncio.Event) -> None:
        """A person writes to the bots, and asks again with the same key until it has an answer."""
        chance, number = Random(f"{self._seed} {name}"), 0
        async with self._hive.client() as client:
            while not stop.is_set():
                number += 1
                content = f"{name} {number}"
                body = {
                    "to": chance.choice(TALKERS),
                    "content": content,
                    "priority": chance.choice(PRIORITIES),
                    "ttl_s": TTL_SHORT_S if chance.random() < 0.05 else 3600,
                }
                self._persons.lines.append(Asks(content=content))
                message_id = await _sent(client, body, key=content.replace(" ", "-"))
                self._persons.lines.append(Sent(id=message_id, content=content))
                await asyncio.sleep(chance.uniform(*PAUSE_S))

    async def end(self) -> None:
        """Let the bots leave."""
        self._over = True
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def _creds(self, bot: str) -> Path:
        return self._hive.data.path / "bots" / bot / "bot.creds"


async def _sent(client: httpx.AsyncClient, body: Mapping[str, object], key: str) -> str:
    while True:
        try:
            answer = await client.post("/v1/messages", json=body, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            await asyncio.sleep(AGAIN_S)
            continue
        if answer.status_code in {201, 202}:
            return answer.headers["Location"].rpartition("/")[2]
        assert answer.status_code in {429, 503}, (answer.status_code, answer.text)
        await asyncio.sleep(AGAIN_S)


@asynccontextmanager
async def correspond(hive: EmbeddedHive, folder: Path, seed: int, stop: asyncio.Event) -> AsyncIterator[Mail]:
    """Bots and persons write to each other until `stop` is set; the bots stay until all is read."""
    mail = Mail(hive, folder, seed)
    await mail.launch()
    async with asyncio.TaskGroup() as group:
        for bot in TALKERS:
            group.create_task(mail.keep(bot))
        for number in range(PERSONS):
            group.create_task(mail.write(f"p{number}", stop))
        group.create_task(_note_stop(folder / "stop", stop))
        try:
            yield mail
        finally:
            stop.set()
            await mail.end()


async def _note_stop(file: Path, stop: asyncio.Event) -> None:
    await stop.wait()
    file.touch()
