"""Event streams: events, signs of life, a client that leaves, a process that leaves."""

import asyncio
from typing import Any

from shared.kernel.errors import Unavailable
from shared.runtime.doors import Patience
from shared.runtime.sse import Emit, EventStream, event


class Client:
    """An ASGI client that stays until it is told to leave."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.heard = b""
        self.status = 0
        self.ended = False
        self.hears = asyncio.Condition()

    async def receive(self) -> Any:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        async with self.hears:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            else:
                self.heard += message["body"]
                self.ended = not message["more_body"]
            self.hears.notify_all()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(5), self.hears:
            await self.hears.wait_for(lambda: text in self.heard)


async def serve(stream: EventStream, client: Client) -> None:
    async with asyncio.timeout(5):
        await stream._serve({}, client.receive, client.send)  # type: ignore[arg-type]


async def never(_: Emit) -> None:
    await asyncio.Event().wait()


async def test_what_is_produced_is_sent_and_then_it_ends() -> None:
    async def produce(emit: Emit) -> None:
        await emit(event("chunk", b'{"a":1}', 7))
        await emit(event("end", b"{}"))

    client = Client()
    await serve(EventStream(produce, patience=Patience()), client)
    assert client.status == 200
    assert client.heard == b'id: 7\nevent: chunk\ndata: {"a":1}\n\nevent: end\ndata: {}\n\n'
    assert client.ended


async def test_silence_is_broken_by_a_comment() -> None:
    client = Client()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(EventStream(never, patience=Patience(), heartbeat_s=0.01), client))
        await client.until(b": still here\n\n: still here\n\n")
        client.leaves.set()


async def test_a_client_that_leaves_ends_the_work() -> None:
    ended = asyncio.Event()

    async def produce(_: Emit) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = Client()
    client.leaves.set()
    await serve(EventStream(produce, patience=Patience()), client)
    assert ended.is_set()


async def test_a_process_that_leaves_sends_the_client_elsewhere() -> None:
    patience = Patience()
    client = Client()

    async def produce(emit: Emit) -> None:
        await emit(event("chunk", b"{}", 1))
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(EventStream(produce, patience=patience), client))
        await client.until(b"chunk")
        patience.end()
    assert client.heard.endswith(b"event: moved\ndata: {}\n\n")


async def test_an_error_on_the_way_is_an_event() -> None:
    async def produce(_: Emit) -> None:
        raise Unavailable("the broker is away")

    client = Client()
    await serve(EventStream(produce, patience=Patience()), client)
    assert b'event: problem\ndata: {"title":"Service Unavailable","status":503' in client.heard


async def test_patience_ends_every_wait_now_and_later() -> None:
    patience = Patience()
    left: list[str] = []

    async def waits(name: str) -> None:
        async with patience.wait():
            await asyncio.Event().wait()
        left.append(name)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(waits("first"))
        await asyncio.sleep(0)
        patience.end()
    async with asyncio.timeout(5):
        await waits("second")
    assert left == ["first", "second"]
