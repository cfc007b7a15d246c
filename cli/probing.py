"""Asking the hive's own processes over HTTP, without a client library: the supervisor stays small."""

import asyncio
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

ANSWER_WITHIN_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 1_000_000
POLL_S: Final = 0.02
OK: Final = 200


class Answer(NamedTuple):
    """A status and a body."""

    status: int
    body: bytes


class _Readiness(msgspec.Struct):
    problems: list[str] = []


async def ask(
    host: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer | None:
    """One request, one answer; None when nobody answers in time."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                head = {"Host": f"{host}:{port}", "Connection": "close", "Content-Length": str(len(body))}
                lines = [
                    f"{method} {path} HTTP/1.1",
                    *(f"{k}: {v}" for k, v in {**head, **(headers or {})}.items()),
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                return await _read(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        return None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    if "content-length" in fields:
        body = await reader.readexactly(min(int(fields["content-length"]), ANSWER_BYTES_MAX))
    elif fields.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.read(ANSWER_BYTES_MAX)
    return Answer(int(head[0].split(" ")[1]), body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if len(body) + size > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too long")
        body += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
    return body


async def problems(host: str, port: int) -> list[str]:
    """What a service says is not ready: nothing when it is."""
    answer = await ask(host, port, "/readyz")
    if answer is None:
        return ["it does not answer yet"]
    if answer.status == OK:
        return []
    try:
        told = msgspec.json.decode(answer.body, type=_Readiness).problems
    except msgspec.DecodeError:
        told = []
    return told or [f"/readyz answers {answer.status}"]


async def until_open(host: str, port: int, key: str) -> None:
    """Return when the API lets this key in: the first key is made by the gateway when it is up."""
    headers = {"Authorization": f"Bearer {key}"}
    while (answer := await ask(host, port, "/v1/status", headers=headers)) is None or answer.status != OK:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)  # another process will know; there is no event to wait for


async def gone(pid: int) -> None:
    """Return when the process has ended; it need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
