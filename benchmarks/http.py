"""A small HTTP/1.1 client on one kept-alive connection: light enough that what is measured is the hive."""

import asyncio
from typing import Any, Final, NamedTuple, Self

import msgspec

PATIENCE_S: Final = 120.0
HEADERS_BYTES_MAX: Final = 65_536


class Answer(NamedTuple):
    """The status, and the decoded document."""

    status: int
    document: Any


class HttpError(Exception):
    """The hive did not do what was asked; the text holds its answer."""


class Client:
    """One connection. Requests on it follow one another."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self.key = key
        self._host = host
        self._port = port
        self._fixed = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=HEADERS_BYTES_MAX
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        self._writer.close()

    async def get(self, path: str) -> Any:
        """The document at `path`; HttpError for any other answer than 200."""
        return _good(await self.request("GET", path))

    async def post(self, path: str, body: Any, *, kind: str = "application/json") -> Any:
        """The answer to a posted document; HttpError unless it is a 2xx."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return _good(await self.request("POST", path, data, kind))

    async def request(
        self, verb: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> Answer:
        """One request and its answer."""
        head = (
            f"{verb} {path} HTTP/1.1\r\n{self._fixed}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        )
        self._writer.write(f"{head}\r\n".encode() + body)
        async with asyncio.timeout(PATIENCE_S):
            await self._writer.drain()
            return await self._answer()

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, msgspec.json.decode(body) if body else None)

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readuntil(b"\r\n")
        return b"".join(parts)


def _good(answer: Answer) -> Any:
    if not 200 <= answer.status < 300:
        raise HttpError(f"{answer.status}: {answer.document}")
    return answer.document
