"""Messages by docs/bot-protocol.md and a NATS client alone: no line of ours is imported by this bot."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.embedded import EmbeddedHive, embedded_hive, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAME = "foreigner"
OUTCOME_WITHIN_S = 2.0


class ForeignReader:
    """Answers chat messages backwards, reads notes; `fail` is returned once, `deaf` mails are not heard."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.session = ""
        self.next: dict[str, int] = {}
        self.known: set[tuple[str, int]] = set()
        self.holding: dict[str, dict[str, Any]] = {}
        self.read: list[dict[str, Any]] = []
        self.hellos = 0
        self.deaf = 0
        self.outcomes = f"{nc.new_inbox()}.outcomes"
        self.waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.turns: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def live(self) -> None:
        await self.nc.subscribe(f"inbox.{NAME}.*", cb=self.on_inbox)
        await self.nc.subscribe(self.outcomes, cb=self.on_outcome)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.beat())
            group.create_task(self.handle())
            await self.hello()

    async def beat(self) -> None:
        beat = {"bot_id": NAME, "generation": 1, "pid": 1, "host": "external", "held": [], "free_slots": 0}
        while True:
            await self.nc.publish(f"hb.{NAME}", json.dumps(beat).encode(), reply=f"{self.outcomes}.beat")
            await asyncio.sleep(1)

    async def hello(self) -> None:
        while True:
            self.hellos += 1
            self.session, self.next = str(uuid.uuid4()), {}
            hello = {"bot_id": NAME, "session": self.session, "holding": list(self.holding)}
            try:
                answer = await self.nc.request(f"mail.{NAME}", json.dumps(hello).encode(), 2)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                await asyncio.sleep(0.1)
            else:
                assert json.loads(answer.data)["session"] == self.session
                return

    async def on_inbox(self, message: Msg) -> None:
        if message.subject.endswith(".hello"):
            await self.hello()
            return
        if self.deaf:
            self.deaf -= 1
            return
        mail = json.loads(message.data)
        lane = message.subject.rpartition(".")[2]
        if mail["session"] != self.session:
            return
        if mail["index"] != self.next.get(lane, 0):
            await self.hello()
            return
        self.next[lane] = mail["index"] + 1
        if (mail["message_id"], mail["delivery"]) not in self.known:
            self.known.add((mail["message_id"], mail["delivery"]))
            self.holding[mail["message_id"]] = mail
            self.turns.put_nowait(mail)

    async def handle(self) -> None:
        while True:
            mail = await self.turns.get()
            if datetime.fromisoformat(mail["expires_at"]) <= datetime.now(UTC):
                await self.say("LetExpire", mail)
            elif mail["content"] == "fail" and mail["delivery"] == 1:
                await self.say("ReturnMessage", mail, code="no_idea", reason="what is that?")
            else:
                if mail["kind"] == "chat":
                    await self.say("TakeMessage", mail, kept=True)
                    await self.answer(mail)
                await self.say("ReadMessage", mail)
                self.read.append(mail)
            del self.holding[mail["message_id"]]

    async def answer(self, mail: dict[str, Any]) -> None:
        answer = {
            "command": "PostMessage",
            "message_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"answer:{mail['message_id']}")),
            "bot_id": NAME,
            "recipient": mail["sender"],
            "content": mail["content"][::-1],
            "priority": mail["priority"],
            "in_reply_to": mail["message_id"],
        }
        outcome = await self.ask(answer, mail["chain"])
        assert outcome["outcome"] in {"committed", "already"}, outcome

    async def say(self, command: str, mail: dict[str, Any], **more: Any) -> None:
        about = {"message_id": mail["message_id"], "bot_id": NAME, "delivery": mail["delivery"]}
        said = f"{command}:{mail['message_id']}:{mail['delivery']}"
        await self.store({"command": command, **about, **more}, mail["chain"], said)

    async def ask(self, command: dict[str, Any], chain: str) -> dict[str, Any]:
        """The outcome; asked with the same id and another `Nats-Msg-Id` until it is known."""
        command_id = self.id_of(command["message_id"])
        while True:
            self.waiting[command_id] = asyncio.get_running_loop().create_future()
            headers = {"Hive-Reply": self.outcomes, "Nats-Msg-Id": str(uuid.uuid4())}
            await self.store(command, chain, command["message_id"], headers)
            try:
                async with asyncio.timeout(OUTCOME_WITHIN_S):
                    return await self.waiting[command_id]
            except TimeoutError:
                continue

    async def store(
        self, command: dict[str, Any], chain: str, said: str, headers: dict[str, str] | None = None
    ) -> None:
        command_id = self.id_of(said)
        envelope = {"id": command_id, "chain": chain, "actor": f"bot-{NAME}", "command": command}
        subject = f"cmd.messenger.bot-{NAME}.{command['message_id']}"
        headers = headers or {"Nats-Msg-Id": command_id}
        while True:
            try:
                stored = await self.nc.request(subject, json.dumps(envelope).encode(), 2, headers=headers)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                continue
            if "error" not in json.loads(stored.data):
                return

    async def on_outcome(self, message: Msg) -> None:
        outcome = json.loads(message.data)
        waiting = self.waiting.get(outcome["command_id"])
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    @staticmethod
    def id_of(said: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, said))

    def contents(self) -> list[str]:
        return [mail["content"] for mail in self.read]


@asynccontextmanager
async def foreigner(hive: EmbeddedHive) -> AsyncIterator[ForeignReader]:
    async with hive.client() as client:
        launched = await client.post("/v1/bots", json={"name": NAME, "engine": "external", "slots": 1})
        assert launched.status_code in {200, 201, 202}, launched.text
    creds = hive.data.path / "bots" / NAME / "bot.creds"

    async def minted() -> bool:
        return creds.exists()

    await eventually(minted, within_s=20)
    inbox = f"_INBOX.bot-{NAME}".encode()
    nc = await nats.connect(hive.running().nats_url, user_credentials=str(creds), inbox_prefix=inbox)
    bot = ForeignReader(nc)
    living = asyncio.create_task(bot.live())
    try:
        yield bot
    finally:
        living.cancel()
        await nc.close()


async def test_a_bot_without_a_line_of_ours_gets_and_answers_messages_and_misses_none(tmp_path: Path) -> None:
    async with embedded_hive(tmp_path) as hive, foreigner(hive) as bot, hive.client() as client:

        async def send(content: str, **more: Any) -> dict[str, Any]:
            sent = await client.post("/v1/messages", json={"to": NAME, "content": content, **more})
            assert sent.status_code == 201, sent.text
            message: dict[str, Any] = sent.json()
            return message

        question = await send("desserts", kind="chat")
        answer = await answer_to(client, question)
        assert (answer["content"], answer["sender"]) == ("stressed", NAME)

        bot.deaf = 2  # as if they were lost: the third shows it
        for number in range(5):
            await send(f"{number}")
        await until_read(bot, ["desserts", "0", "1", "2", "3", "4"])

        failing = await send("fail")
        await until_read(bot, ["desserts", "0", "1", "2", "3", "4", "fail"])
        assert bot.read[-1]["delivery"] == 2

        async def all_known() -> bool:
            shown = await client.get(f"/v1/messages/{failing['id']}")
            return bool(shown.json()["state"] == "read")

        await eventually(all_known, within_s=10)
        inbox = (await client.get(f"/v1/bots/{NAME}/inbox")).json()
        assert inbox["unread"] == 0
        assert bot.hellos >= 2


async def answer_to(client: httpx.AsyncClient, question: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def answered() -> bool:
        inbox = (await client.get("/v1/inbox")).json()
        found[:] = [each for each in inbox["items"] if each.get("in_reply_to") == question["id"]]
        return bool(found)

    await eventually(answered, within_s=20)
    [answer] = found
    return answer


async def until_read(bot: ForeignReader, contents: list[str]) -> None:
    async def read() -> bool:
        return bot.contents() == contents

    await eventually(read, within_s=20)
