"""Reads by direct get: one message or many of a stream, without a consumer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.connection import NO_RESPONDERS, Connection, status_of

BATCH: Final = 256
BATCH_BYTES: Final = 4 * 1024 * 1024
SILENCE_S: Final = 5.0  # an answer that has begun is broken off by so much silence

NOT_FOUND: Final = "404"
END_OF_BATCH: Final = "204"


@dataclass(frozen=True, slots=True)
class Found:
    """A stored message."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


class _Last(msgspec.Struct):
    last_by_subj: str


class _Next(msgspec.Struct):
    seq: int
    next_by_subj: str


class _NextBatch(msgspec.Struct):
    seq: int
    next_by_subj: str
    batch: int = BATCH
    max_bytes: int = BATCH_BYTES


class _LeaderMessage(msgspec.Struct):
    seq: int = 0


class _LeaderAnswer(msgspec.Struct):
    message: _LeaderMessage | None = None
    error: Any = None


async def last_on(connection: Connection, stream: str, subject: str) -> Found | None:
    """The last message on a subject (wildcards allowed); None if there is none."""
    return await _one(connection, stream, _Last(subject))


async def peek(connection: Connection, stream: str, subject_filter: str, start: int = 1) -> Found | None:
    """The first message on a subject (wildcards allowed) at a sequence or after it; None if there is none."""
    return await _one(connection, stream, _Next(start, subject_filter))


async def every(connection: Connection, stream: str, subject: str, after: int = 0) -> list[Found]:
    """All messages on a subject, or those after a sequence, oldest first."""
    found: list[Found] = []
    more = True
    while more:
        batch, more = await following(connection, stream, subject, found[-1].sequence if found else after)
        found += batch
    return found


async def following(
    connection: Connection, stream: str, subject: str, after: int
) -> tuple[list[Found], bool]:
    """Messages on a subject (wildcards allowed) after a sequence, oldest first; whether there are more."""
    if not connection.connected:
        raise Unavailable("the broker is away")
    batch = _Batch()
    reply = connection.replies.expect(batch.hear, batch.lose)
    try:
        request = encode(_NextBatch(after + 1, subject))
        await connection.publish(f"$JS.API.DIRECT.GET.{stream}", request, reply)
        pending = await batch.ended()
    finally:
        connection.replies.forget(reply)
    return batch.found, pending > 0


class _Batch:
    """The answer to one batch request, message by message."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hear(self, message: Msg) -> None:
        """Take one message, or the end."""
        status = status_of(message)
        if self._end.done():
            return
        if not status:
            self._take(message)
        elif status == END_OF_BATCH:
            self._end.set_result(int((message.headers or {})["Nats-Num-Pending"]))
        elif status == NOT_FOUND:
            self._end.set_result(0)
        elif status == NO_RESPONDERS:
            self._end.set_exception(Unavailable("the stream does not answer direct gets now"))
        else:
            self._end.set_exception(Unavailable(f"direct get: {status} {_description(message)}"))

    def _take(self, message: Msg) -> None:
        found = _found(message)
        before = int(found.headers["Nats-Last-Sequence"])
        if before != (self.found[-1].sequence if self.found else 0):
            self._end.set_exception(Unavailable("a part of the answer was lost on the way"))
            return
        self.found.append(found)

    def lose(self) -> None:
        """The connection broke."""
        if not self._end.done():
            self._end.set_exception(Unavailable("the connection broke"))

    async def ended(self) -> int:
        """Wait for the end; how many messages are still to be asked for."""
        heard = -1
        while heard != len(self.found):
            heard = len(self.found)
            done, _ = await asyncio.wait((self._end,), timeout=SILENCE_S)
            if done:
                return self._end.result()
        raise Unavailable(f"no answer to a direct get within {SILENCE_S:g} s")


async def leader_sequence(connection: Connection, stream: str, subject: str) -> int:
    """The last sequence on a subject as the stream's leader knows it; 0 if there is none."""
    request = encode(_Last(subject))
    message = await connection.request(f"$JS.API.STREAM.MSG.GET.{stream}", request, timeout=SILENCE_S)
    answer = msgspec.json.decode(message.data, type=_LeaderAnswer)
    if answer.message is not None:
        return answer.message.seq
    if isinstance(answer.error, dict) and answer.error.get("code") == int(NOT_FOUND):
        return 0
    raise Unavailable(f"{stream}: {answer.error}")


async def _one(connection: Connection, stream: str, request: msgspec.Struct) -> Found | None:
    message = await connection.request(f"$JS.API.DIRECT.GET.{stream}", encode(request), timeout=SILENCE_S)
    status = status_of(message)
    if not status:
        return _found(message)
    if status == NOT_FOUND:
        return None
    raise Unavailable(f"direct get: {status} {_description(message)}")


def _found(message: Msg) -> Found:
    headers = message.headers or {}
    return Found(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data, headers)


def _description(message: Msg) -> str:
    return (message.headers or {}).get("Description", "")
