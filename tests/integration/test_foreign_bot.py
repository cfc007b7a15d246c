"""A bot that knows nothing but docs/bot-protocol.md and a NATS client: no line of ours is imported by it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.embedded import EmbeddedHive, embedded_hive, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAME = "foreigner"
STATUS = "Status"
CUT_OFF_AFTER_S = 4.0


class ForeignBot:
    """Answers every task with its content, backwards; content `wait` never ends."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.held: dict[int, dict] = {}
        self.working: dict[int, asyncio.Task] = {}
        self.seen: set[int] = set()
        self.stopped: list[int] = []
        self.answered_at: float | None = None
        self.told_to_leave = asyncio.Event()
        self.pull = f"{nc.new_inbox()}.pull"

    async def live(self) -> None:
        await self.nc.subscribe(self.pull, cb=self.on_assignment)
        await self.nc.subscribe(f"ctl.{NAME}", cb=self.on_control)
        await self.beat()
        await self.ask_for_work()
        while not self.told_to_leave.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await self.told_to_leave.wait()
            except TimeoutError:
                await self.beat()

    async def ask_for_work(self) -> None:
        pull = {"batch": 1, "expires": 30_000_000_000, "idle_heartbeat": 10_000_000_000}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.DISPATCH.bot-{NAME}"
        await self.nc.publish(subject, json.dumps(pull).encode(), reply=self.pull)

    async def beat(self) -> None:
        held = [{"task_id": task["task_id"], "token": token} for token, task in self.held.items()]
        beat = {"bot_id": NAME, "generation": 1, "pid": 1, "host": "external", "held": held, "free_slots": 1}
        sent_at = time.monotonic()
        try:
            answer = json.loads((await self.nc.request(f"hb.{NAME}", json.dumps(beat).encode(), 0.9)).data)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
            if self.answered_at is not None and time.monotonic() - self.answered_at > CUT_OFF_AFTER_S:
                self.stop(*self.held)
            return
        self.answered_at = sent_at
        self.stop(*({each["token"] for each in held} - set(answer.get("held", []))))
        if answer.get("stop"):
            self.told_to_leave.set()

    async def on_assignment(self, message: Msg) -> None:
        if message.headers and STATUS in message.headers:
            if message.headers[STATUS] in {"404", "408", "409"}:
                await self.ask_for_work()
            return
        task = json.loads(message.data)
        await message.respond(b"+ACK")
        if task["token"] not in self.seen:
            self.seen.add(task["token"])
            self.held[task["token"]] = task
            self.working[task["token"]] = asyncio.create_task(self.work(task))
        await self.beat()

    async def work(self, task: dict) -> None:
        started_at = datetime.now(UTC).isoformat()
        if task["content"] == "wait":
            await asyncio.Event().wait()
        headers = {"Hive-Task": task["task_id"], "Hive-Token": str(task["token"])}
        text = task["content"][::-1]
        if "input_file" in task:
            wanted = task["input_file"]["sha256"].encode()
            text = (await self.nc.request(f"file.{NAME}.get", wanted, 5, headers=headers)).data.decode()[::-1]
        chunk = {"task_id": task["task_id"], "token": task["token"], "index": 0, "text": text}
        await self.nc.publish(f"live.{NAME}.{task['task_id']}", json.dumps(chunk).encode())
        output = {"text": text, "size_bytes": len(text.encode())}
        if len(text) > 16_384:
            filed = await self.nc.request(f"file.{NAME}.put", text.encode(), 5, headers=headers)
            file = {"sha256": json.loads(filed.data)["sha256"], "size_bytes": len(text)}
            output |= {"text": text[:16_384], "file": file}
        report = {
            "command": "ReportTask",
            "task_id": task["task_id"],
            "bot_id": NAME,
            "token": task["token"],
            "started_at": started_at,
            "ended_at": datetime.now(UTC).isoformat(),
            "end": {"end": "done", "output": output, "usage": {"tokens_out": 3}},
        }
        await self.command(task, report)
        del self.held[task["token"]]
        await self.ask_for_work()

    async def command(self, task: dict, command: dict) -> None:
        command_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{command['command']}:{task['token']}"))
        envelope = {"id": command_id, "chain": task["chain"], "actor": f"bot-{NAME}", "command": command}
        subject, headers = f"cmd.orchestrator.bot-{NAME}.{task['task_id']}", {"Nats-Msg-Id": command_id}
        while True:
            try:
                stored = await self.nc.request(subject, json.dumps(envelope).encode(), 2, headers=headers)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                continue
            if "error" not in json.loads(stored.data):
                return

    async def on_control(self, message: Msg) -> None:
        control = json.loads(message.data)
        if control["control"] == "cancel":
            self.stop(control["token"])

    def stop(self, *tokens: int) -> None:
        for token in tokens:
            if self.held.pop(token, None) is not None:
                self.working[token].cancel()
                self.stopped.append(token)


@asynccontextmanager
async def foreigner(hive: EmbeddedHive) -> AsyncIterator[ForeignBot]:
    async with hive.client() as client:
        launched = await client.post("/v1/bots", json={"name": NAME, "engine": "external", "slots": 1})
        assert launched.status_code in {200, 201, 202}, launched.text
    creds = hive.data.path / "bots" / NAME / "bot.creds"

    async def minted() -> bool:
        return creds.exists()

    await eventually(minted, within_s=20)
    inbox = f"_INBOX.bot-{NAME}".encode()
    nc = await nats.connect(hive.running().nats_url, user_credentials=str(creds), inbox_prefix=inbox)
    bot = ForeignBot(nc)
    living = asyncio.create_task(bot.live())
    try:
        yield bot
    finally:
        living.cancel()
        await nc.close()


async def test_a_bot_without_a_line_of_ours_does_tasks_is_cancelled_and_leaves(tmp_path: Path) -> None:
    async with embedded_hive(tmp_path) as hive, foreigner(hive) as bot, hive.client() as client:

        async def submit(content: str, wait_s: int, given: str | None = None) -> dict:
            body = {"content": content, "type": "other", "bot": NAME, "input": given}
            answer = await client.post("/v1/tasks", params={"wait": wait_s}, json=body)
            assert answer.status_code < 300, answer.text
            return answer.json()

        done = await submit("desserts", 20)
        assert done["state"] == "completed", done
        assert done["output"]["text"] == "stressed"
        assert done["bot"] == NAME
        assert done["usage"]["tokens_out"] == 3

        shown = await client.get("/v1/bots/foreigner")
        assert shown.json()["state"] == "idle", shown.text

        long = await submit("turn it round", 20, "ab" * 20_000)
        assert long["state"] == "completed", long
        assert long["output"]["file"]["size_bytes"] == 40_000
        assert long["output"]["text"] == "ba" * 8_192

        waiting = await submit("wait", 0)

        async def held() -> bool:
            return bool(bot.held)

        await eventually(held, within_s=10)
        await client.post(f"/v1/tasks/{waiting['id']}/cancel", json={})

        async def stopped() -> bool:
            return len(bot.stopped) == 1

        await eventually(stopped, within_s=10)
        assert (await client.get(f"/v1/tasks/{waiting['id']}")).json()["state"] == "cancelled"

        await client.post("/v1/bots/foreigner/stop")
        retired = await client.delete("/v1/bots/foreigner")
        assert retired.status_code < 300, retired.text
        async with asyncio.timeout(20):
            while not bot.told_to_leave.is_set() and bot.nc.is_connected:
                await asyncio.sleep(0.05)

        async def cut_off() -> bool:
            return not (hive.data.path / "bots" / NAME).exists()

        await eventually(cut_off, within_s=20)
