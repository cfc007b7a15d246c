"""The WebSockets of a process: each behind the guard, and ended when its key is, or the process leaves."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from litestar.connection import ASGIConnection
from litestar.types import Receive, Scope
from litestar.types import Send as Reply

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime import metrics
from shared.runtime.doors import Doors
from shared.runtime.http import EXTRA_HEADERS
from shared.runtime.problems import PROBLEM_JSON, Refusal, refusal_of
from shared.runtime.websocket import (
    AGAIN_LATER,
    BROKEN,
    DONE,
    MOVED,
    NO_MORE_ACCESS,
    NONSENSE,
    Admission,
    Ended,
    Left,
    Socket,
)

LOOK_EVERY_S: Final = 1.0

Knock = Callable[[ASGIConnection[Any, Any, Any, Any], str], Admission]
"""Lets a caller in who has this scope, or raises a Refusal."""

Talk = Callable[[Socket, Doors, Mapping[str, str]], Awaitable[None]]
"""Accepts and serves a connection; what it raises before it accepts is answered as a problem document."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """A path, as `/v1/bots/{name}/ws`, the scope that it needs, and what is said there."""

    path: str
    scope: str
    talk: Talk


class Sockets:
    """An ASGI application for `websocket` scopes."""

    def __init__(self, routes: Sequence[SocketRoute], *, doors: Doors, knock: Knock) -> None:
        self._routes = [(route.path.split("/"), route) for route in routes]
        self._doors = doors
        self._knock = knock
        self._open: set[Socket] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Reply) -> None:
        """One connection, from its knock to its close."""
        try:
            route, parameters = self._route(scope["path"])
            socket = self._let_in(scope, receive, send, route)
        except Refusal as refusal:
            await _refuse(refusal, scope, send)
            return
        metrics.WEBSOCKETS.labels(route.path).inc()
        self._open.add(socket)
        try:
            await self._serve(socket, route, parameters)
        finally:
            self._open.discard(socket)
            metrics.WEBSOCKETS.labels(route.path).dec()

    async def watch(self) -> NoReturn:
        """Show out whose key was revoked or has expired, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for socket in tuple(self._open):
                if (refusal := socket.admission.closed()) is not None:
                    socket.end(NO_MORE_ACCESS, f"{refusal.problem.code}: {refusal.problem.detail}")

    def _route(self, path: str) -> tuple[SocketRoute, Mapping[str, str]]:
        parts = path.split("/")
        for pattern, route in self._routes:
            if len(pattern) == len(parts) and all(
                wanted == part or wanted.startswith("{") for wanted, part in zip(pattern, parts, strict=True)
            ):
                pairs = zip(pattern, parts, strict=True)
                return route, {name.strip("{}"): part for name, part in pairs if name.startswith("{")}
        raise Refusal(404, "not_found", "There is no WebSocket here.")

    def _let_in(self, scope: Scope, receive: Receive, send: Reply, route: SocketRoute) -> Socket:
        admission = self._knock(ASGIConnection(scope, receive, send), route.scope)
        if self._doors.patience.over:
            raise refusal_of(Unavailable("this process leaves: come again"))
        return Socket(scope, receive, send, admission)

    async def _serve(self, socket: Socket, route: SocketRoute, parameters: Mapping[str, str]) -> None:
        async def talk() -> None:
            async with self._doors.patience.wait():
                await route.talk(socket, self._doors, parameters)
            if self._doors.patience.over:
                raise Ended(MOVED, f"moved: come again with {socket.resume}" if socket.resume else "moved")
            raise Ended(DONE, "")

        try:
            await socket.serve(talk)
        except Exception as failed:  # noqa: BLE001 - one connection's failure must not end the others
            await self._end(socket, _foremost(failed))

    async def _end(self, socket: Socket, error: Exception) -> None:
        if isinstance(error, Left):
            return
        if socket.accepted:
            await socket.close(*_close_of(error))
        else:
            await _refuse(refusal_of(error), socket.scope, socket.reply)


def _foremost(failed: Exception) -> Exception:
    """The error that tells most: what we ended it with, or else that the client left, or else the first."""
    errors = list(_leaves(failed))
    for kind in (Ended, Left):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _leaves(error: BaseException) -> Iterator[Exception]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif isinstance(error, Exception):
        yield error


def _close_of(error: Exception) -> tuple[int, str]:
    """With which code and reason a connection ends that was begun already."""
    if isinstance(error, Ended):
        return error.code, error.reason
    problem = refusal_of(error).problem
    if problem.code == "internal":
        _log.error("a WebSocket failed", exc_info=error)
        return BROKEN, problem.detail
    code = AGAIN_LATER if problem.status in {409, 429, 503} else NONSENSE
    return code, f"{problem.code}: {problem.detail}"


async def _refuse(refusal: Refusal, scope: Scope, send: Reply) -> None:
    """Answer the handshake with a problem document."""
    if refusal.problem.code == "internal":
        _log.error("a WebSocket could not be opened", exc_info=refusal.__context__)
    told: Any = scope.get(EXTRA_HEADERS, ())
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    headers += [(b"content-type", PROBLEM_JSON.encode()), (b"cache-control", b"no-store"), *told]
    start: Any = {
        "type": "websocket.http.response.start",
        "status": refusal.problem.status,
        "headers": headers,
    }
    body: Any = {"type": "websocket.http.response.body", "body": encode(refusal.problem), "more_body": False}
    await send(start)
    await send(body)
