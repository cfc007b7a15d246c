"""The HTTP server of a process: uvicorn in the running loop, and a drain that fails no request."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from shared.runtime.doors import Patience
from shared.runtime.http import Front
from shared.runtime.settings import Settings
from shared.runtime.unreadable import Protocol
from shared.runtime.wsprotocol import FRAME_BYTES_MAX, PING_EVERY_S, PONG_WITHIN_S, BoundedWebSocket

BACKLOG: Final = 2_048
IDLE_CONNECTION_S: Final = 30
IN_FLIGHT_MAX_S: Final = 8.0  # within the drain of a whole process

_log = logging.getLogger(__name__)


class WebServer:
    """Serves one application on an inherited socket, or on one of its own."""

    def __init__(self, front: Front, settings: Settings, patience: Patience) -> None:
        self._front = front
        self._settings = settings
        self._patience = patience
        self._server = _Server(
            uvicorn.Config(
                front,
                loop="none",
                http=Protocol,
                ws=BoundedWebSocket,
                ws_max_size=FRAME_BYTES_MAX,
                ws_ping_interval=PING_EVERY_S,
                ws_ping_timeout=PONG_WITHIN_S,
                ws_per_message_deflate=False,  # it would cost each connection more memory than all else
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # whoever connects is who is counted
                timeout_keep_alive=IDLE_CONNECTION_S,
                timeout_graceful_shutdown=1,
                backlog=BACKLOG,
            )
        )
        self.port = 0

    async def run(self) -> None:
        """Serve until drained."""
        listener = self._listener()
        self.port = listener.getsockname()[1]
        _log.info("listening", extra={"data": {"host": self._settings.http_host, "port": self.port}})
        await self._server.serve(sockets=[listener])

    async def drain(self) -> None:
        """Accept nothing more, end the long waits, answer what is in flight, then close."""
        self._front.leaving = True
        self._server.stop_accepting()
        self._patience.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IN_FLIGHT_MAX_S):
                await self._front.idle()
        self._server.should_exit = True

    def _listener(self) -> socket.socket:
        if self._settings.http_fd is not None:
            return socket.socket(fileno=self._settings.http_fd)
        family = socket.AF_INET6 if ":" in self._settings.http_host else socket.AF_INET
        address = (self._settings.http_host, self._settings.http_port)
        return socket.create_server(address, family=family, backlog=BACKLOG)


class _Server(uvicorn.Server):
    """Uvicorn without hands on the signals: those are the process'."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield

    def stop_accepting(self) -> None:
        """New connections go to whoever else listens on the socket, or are refused."""
        for server in getattr(self, "servers", ()):
            server.close()
