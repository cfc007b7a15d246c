"""The HTTP server of a process: it drains without failing a request."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from shared.runtime.doors import Patience
from shared.runtime.http import Front
from shared.runtime.settings import load
from shared.runtime.webserver import WebServer


class App:
    """Answers at once, or `/slow` when it may."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            self.asked.set()
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Running:
    def __init__(self, server: WebServer, app: App, url: str) -> None:
        self.server = server
        self.app = app
        self.url = url

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, trust_env=False)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Running]:
    app = App()
    front = Front(app)
    server = WebServer(front, load({}, sender="gateway", **settings), Patience())
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        while not server.port:
            await asyncio.sleep(0)
        yield Running(server, app, f"http://127.0.0.1:{server.port}")
        app.may_answer.set()
        await server.drain()
        await running


async def test_it_serves_on_a_free_port() -> None:
    async with serving() as here, here.client() as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"hello?\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem_document(garbage: bytes) -> None:
    async with serving() as here, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
        writer.write(garbage)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        async with here.client() as client:
            assert (await client.get("/")).status_code == 200
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]) == len(body)
    problem = msgspec.json.decode(body)
    assert (problem["status"], problem["code"]) == (400, "bad_http")


async def test_it_serves_on_an_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with serving(http_fd=socket.socket.dup(listener).detach()) as here, here.client() as client:
            assert here.server.port == port
            assert (await client.get("/")).status_code == 200


async def test_what_is_in_flight_is_answered_before_it_leaves() -> None:
    async with serving() as here, here.client() as client, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(client.get("/slow"))
        await here.app.asked.wait()
        draining = tasks.create_task(here.server.drain())
        async with asyncio.timeout(5):
            while True:
                try:
                    async with here.client() as other:
                        await other.get("/")
                except httpx.ConnectError:
                    break
        assert not draining.done()
        here.app.may_answer.set()
        answer = await slow
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_long_waits_end_when_it_leaves() -> None:
    patience = Patience()
    server = WebServer(Front(App()), load({}, sender="gateway"), patience)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        while not server.port:
            await asyncio.sleep(0)
        await server.drain()
    assert patience.over


async def test_a_web_socket_is_not_answered() -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    await Front(App())({"type": "websocket"}, pytest.fail, send)  # type: ignore[arg-type, typeddict-item]
    assert said == []
