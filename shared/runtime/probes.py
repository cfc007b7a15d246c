"""The private probe port of a process: /livez, /readyz, /metrics. GET only, one answer a connection."""

import asyncio
from collections.abc import Callable
from typing import Final

from prometheus_client import REGISTRY, generate_latest

from shared.kernel.codec import encode

_REQUEST_BYTES_MAX: Final = 8_192
_PATIENCE_S: Final = 5.0


class Probes:
    """Answers who watches over this process. `problems` names what is not ready, empty when all is."""

    def __init__(self, problems: Callable[[], list[str]]) -> None:
        self._problems = problems
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_REQUEST_BYTES_MAX)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(
                    head.split(b" ", 2)[1].split(b"?")[0].decode(errors="replace")
                )
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            IndexError,
            ConnectionError,
        ):
            pass
        finally:
            writer.close()

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        match path:
            case "/livez":
                return "200 OK", "application/json", b'{"live":true}'
            case "/readyz":
                problems = self._problems()
                status = "503 Service Unavailable" if problems else "200 OK"
                return status, "application/json", encode({"ready": not problems, "problems": problems})
            case "/metrics":
                return "200 OK", "text/plain; version=0.0.4; charset=utf-8", generate_latest(REGISTRY)
            case _:
                return "404 Not Found", "application/json", b'{"error":"not found"}'
