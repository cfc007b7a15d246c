"""A person who talks to bots over HTTP and WebSockets."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from tests.support.embedded import EmbeddedHive

ANSWERED_WITHIN_S = 60.0
PAGE = 7  # so that a history has more than one


class Person:
    """The holder of the admin key."""

    def __init__(self, hive: EmbeddedHive, client: httpx.AsyncClient) -> None:
        self._hive = hive
        self._client = client
        self.name = ""

    async def say(self, bot: str, content: str, **more: Any) -> dict[str, Any]:
        """A chat message; what the hive made of it."""
        body = {"to": bot, "content": content, "kind": "chat", **more}
        answer = await self._client.post("/v1/messages", json=body)
        assert answer.status_code == 201, answer.text
        message: dict[str, Any] = answer.json()
        self.name = message["sender"]
        return message

    async def answer_to(self, message: dict[str, Any]) -> dict[str, Any]:
        """The bot's answer, when it is there."""
        return (await self.answers_to([message]))[0]

    async def answers_to(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers, in the order of the questions, when all are there."""
        bots = {message["recipient"] for message in messages}
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while True:
                answers = {
                    said["in_reply_to"]: said
                    for bot in bots
                    for said in await self.history(bot)
                    if said["in_reply_to"] is not None
                }
                if all(message["id"] in answers for message in messages):
                    return [answers[message["id"]] for message in messages]
                await asyncio.sleep(0.05)

    async def history(self, bot: str) -> list[dict[str, Any]]:
        """All that a bot wrote and got, newest first, page by page."""
        return [each async for each in self._pages(f"/v1/bots/{bot}/messages")]

    async def inbox(self, bot: str) -> dict[str, Any]:
        """The newest of what a bot got, and how much of it is unread."""
        return await self._get(f"/v1/bots/{bot}/inbox")

    async def bot(self, name: str) -> dict[str, Any]:
        """How a bot is."""
        return await self._get(f"/v1/bots/{name}")

    async def tell(self, bot: str, what: str) -> None:
        """Stop, start or restart it."""
        answer = await self._client.post(f"/v1/bots/{bot}/{what}", params={"wait": 20})
        assert answer.status_code in {200, 202}, answer.text

    async def until(self, bot: str, states: Iterable[str]) -> dict[str, Any]:
        """How a bot is, once it is in one of these states."""
        wanted = set(states)
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while (now := await self.bot(bot))["state"] not in wanted:
                await asyncio.sleep(0.05)
        return now

    @asynccontextmanager
    async def socket(self, bot: str, after: int = 0) -> AsyncIterator["Chat"]:
        """The WebSocket of a bot, open."""
        running = self._hive.running()
        key = Path(running.admin_key).read_text().strip()
        url = f"{running.url.replace('http', 'ws', 1)}/v1/bots/{bot}/ws?after={after}"
        async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as connection:
            yield Chat(connection)

    async def _get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = await self._client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def _pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        params: dict[str, Any] = {"limit": PAGE}
        while True:
            page = await self._get(path, **params)
            for each in page["items"]:
                yield each
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]


class Chat:
    """What came over one WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.texts: list[dict[str, Any]] = []

    async def say(self, ref: str, content: str) -> None:
        """Send it, without waiting."""
        frame = {"type": "text", "ref": ref, "content": content}
        await self._connection.send(msgspec.json.encode(frame).decode())

    async def hear(self, count: int) -> list[dict[str, Any]]:
        """The first so many texts of either side."""
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while len(self.texts) < count:
                frame = msgspec.json.decode(await self._connection.recv())
                assert frame["type"] != "error", frame
                if frame["type"] == "text":
                    self.texts.append(frame["message"])
        return self.texts[:count]


@asynccontextmanager
async def person(hive: EmbeddedHive) -> AsyncIterator[Person]:
    """Somebody with the admin key."""
    async with hive.client() as client:
        yield Person(hive, client)
