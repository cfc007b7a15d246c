"""Server-sent events: an answer that goes on, with a sign of life when there is nothing to say."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope
from litestar.types import Send as Reply

from shared.kernel.codec import encode
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.runtime.doors import Patience
from shared.runtime.problems import Refusal, refusal_of

HEARTBEAT_S: Final = 15.0
EVENT_STREAM: Final = "text/event-stream"

Emit = Callable[[bytes], Awaitable[None]]


def event(name: str, data: bytes, event_id: int | None = None) -> bytes:
    """One event; `data` is JSON, so one line."""
    identified = b"" if event_id is None else b"id: %d\n" % event_id
    return b"%bevent: %b\ndata: %b\n\n" % (identified, name.encode(), data)


MOVED: Final = event("moved", b"{}")
"""This process leaves: the client comes again, with its last event's id, and finds another one."""


class EventStream(Response[bytes]):
    """What `produce` emits, until it returns, the client leaves, or this process is to leave."""

    def __init__(
        self,
        produce: Callable[[Emit], Awaitable[None]],
        *,
        patience: Patience,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(b"", media_type=EVENT_STREAM)
        self._produce = produce
        self._patience = patience
        self._heartbeat_s = heartbeat_s

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override] # not made of a body
        """The answer as an ASGI application."""
        return self._serve

    async def _serve(self, _: Scope, receive: Receive, send: Reply) -> None:
        headers = [(b"content-type", EVENT_STREAM.encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        said = asyncio.Event()

        async def emit(data: bytes) -> None:
            said.set()
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._work(emit))
            heart = tasks.create_task(self._beat(said, emit))
            gone = tasks.create_task(_gone(receive))
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            for task in (work, heart, gone):
                task.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _work(self, emit: Emit) -> None:
        try:
            async with self._patience.wait():
                await self._produce(emit)
        except (NotFound, Rejected, Behind, Unavailable, Refusal) as error:
            await emit(event("problem", encode(refusal_of(error).problem)))
        if self._patience.over:
            await emit(MOVED)

    async def _beat(self, said: asyncio.Event, emit: Emit) -> None:
        while True:
            said.clear()
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await said.wait()
            except TimeoutError:
                await emit(b": still here\n\n")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
