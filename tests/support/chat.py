"""A client of our WebSockets, and the API on a port for it to come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from shared.runtime.settings import load
from shared.runtime.webserver import WebServer
from tests.support.api import ApiHive

WITHIN_S = 10.0


class Served:
    """The API on a port."""

    def __init__(self, hive: ApiHive, server: WebServer) -> None:
        self.hive = hive
        self.server = server

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}"

    @asynccontextmanager
    async def open(self, path: str, secret: str | None = None, **options: Any) -> AsyncIterator["Client"]:
        """A connection with this key."""
        async with client(f"{self.url}{path}", secret, **options) as opened:
            yield opened

    async def refused(self, path: str, secret: str | None = None, **options: Any) -> tuple[int, str]:
        """The status and the code with which a connection is not opened."""
        with pytest.raises(InvalidStatus) as refused:
            async with self.open(path, secret, **options):
                pass
        response = refused.value.response
        assert response.headers["content-type"] == "application/problem+json"
        return response.status_code, msgspec.json.decode(response.body or b"")["code"]


class Client:
    """Frames as dictionaries."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **frame: Any) -> None:
        await self.connection.send(msgspec.json.encode(frame).decode())

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next frame, or the next one of these kinds."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
                if not kinds or frame["type"] in kinds:
                    return frame

    async def texts(self, count: int) -> list[str]:
        """The content of so many messages."""
        return [(await self.next("text"))["message"]["content"] for _ in range(count)]

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the server closes; what comes before that is skipped."""
        with pytest.raises(ConnectionClosed) as closed:
            await self._skip_all()
        assert closed.value.rcvd is not None, "it was cut off"
        return closed.value.rcvd.code, closed.value.rcvd.reason

    async def _skip_all(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                await self.connection.recv()


@asynccontextmanager
async def client(url: str, secret: str | None, **options: Any) -> AsyncIterator[Client]:
    """A connection to any of our WebSockets."""
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    headers |= options.pop("headers", {})
    async with connect(
        url, additional_headers=headers, compression=None, proxy=None, close_timeout=2, **options
    ) as connection:
        yield Client(connection)


@asynccontextmanager
async def served(hive: ApiHive) -> AsyncIterator[Served]:
    """The API on a port, until the end of the block."""
    server = WebServer(hive.front, load({}, sender="gateway"), hive.doors.patience)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        watching = tasks.create_task(hive.sockets.watch())
        async with asyncio.timeout(WITHIN_S):
            while not server.port:
                await asyncio.sleep(0)
        try:
            yield Served(hive, server)
        finally:
            await server.drain()
            watching.cancel()
            async with asyncio.timeout(WITHIN_S):
                await running
