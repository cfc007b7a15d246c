"""The web application: services' routers under /v1, guarded by default; every error a problem document."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from litestar import Litestar, Response, Router, route
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp, ControllerRouterHandler, HTTPScope, Message, Receive, Scope
from litestar.types import Send as Reply

from shared.runtime import metrics, telemetry
from shared.runtime.clock import monotonic
from shared.runtime.doors import Doors
from shared.runtime.openapi import SAYS, Operation
from shared.runtime.problems import response_of

EXTRA_HEADERS: Final = "hive.headers"
"""In a request's scope: the headers that the guard adds to its answer, whatever that is."""

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

_EVERY_ANSWER: Final[Headers] = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_LAST_ANSWER: Final = (b"connection", b"close")


def application(
    routes: Sequence[HTTPRouteHandler],
    *,
    doors: Doors,
    guard: Guard,
    open_routes: Sequence[ControllerRouterHandler] = (),
) -> Litestar:
    """The services' routes, each of them guarded; `open_routes` stand beside them and need no key."""

    async def guarded(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        # Litestar deeply copies what it is given, but no functions: a method would bring a copy of all keys.
        await guard(connection, handler)

    api = Router(
        "/v1",
        route_handlers=[*_options(routes), *routes],
        guards=[guarded],
        dependencies={"doors": Provide(lambda: doors, sync_to_thread=False)},
    )
    app = Litestar(
        [api, *open_routes],
        exception_handlers={Exception: response_of},
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    _every_route_says_its_scope(app)
    return app


def _options(routes: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """What each path answers to OPTIONS, if it comes first; Litestar's own knows one route of a path only."""
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for handler in routes:
        for path in handler.paths:
            methods[path] |= handler.http_methods
    return [_option(path, ", ".join(sorted({*allowed, "OPTIONS"}))) for path, allowed in methods.items()]


def _option(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=HttpMethod.OPTIONS, status_code=204)
    async def options() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    return options


def _every_route_says_its_scope(app: Litestar) -> None:
    for each in app.routes:
        for handler in getattr(each, "route_handlers", ()):
            if each.path.startswith("/v1") and isinstance(handler, HTTPRouteHandler):
                own = handler.http_methods != {"OPTIONS"}
                assert not own or isinstance(handler.opt.get(SAYS), Operation), handler


class Front:
    """What stands before the application: counts, measures, and knows when the last answer has gone out."""

    def __init__(self, app: Any, sockets: ASGIApp | None = None) -> None:
        self._app = app
        self._sockets = sockets
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.leaving = False

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Reply) -> None:
        """ASGI."""
        if scope["type"] == ScopeType.WEBSOCKET and self._sockets is not None:
            with self._answering():
                await self._sockets(scope, receive, send)
        elif scope["type"] == ScopeType.HTTP:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Reply) -> None:
        began = monotonic()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *cast("Headers", scope.get(EXTRA_HEADERS, ()))]
                told = {name for name, _ in headers}
                headers += [header for header in _EVERY_ANSWER if header[0] not in told]
                if self.leaving:
                    headers.append(_LAST_ANSWER)
                message = {**message, "headers": headers}
            await send(message)

        try:
            with (
                self._answering(),
                telemetry.span("http", incoming=_traced(scope), method=scope["method"]),
            ):
                await self._app(scope, receive, answer)
        finally:
            route = scope.get("path_template", "unmatched")
            metrics.HTTP_SECONDS.labels(scope["method"], route, status).observe(monotonic() - began)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()


def _traced(scope: Scope) -> dict[str, str]:
    """The headers in which a caller hands on its trace (W3C Trace Context)."""
    return {
        name.decode(): value.decode(errors="replace")
        for name, value in scope["headers"]
        if name in {b"traceparent", b"tracestate"}
    }
