"""Publishes that are acknowledged: many in flight, one inbox, a deadline for each."""

import asyncio
import contextlib
from collections.abc import Mapping
from itertools import count
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import NO_RESPONDERS, BrokerRefused, Connection, status_of

IN_FLIGHT_MAX: Final = 1024
SWEEP_S: Final = 0.25
ASK_AGAIN_AFTER_S: Final = 2.0  # of silence; only what carries a message id is sent again

MSG_ID: Final = "Nats-Msg-Id"
TTL: Final = "Nats-TTL"
MESSAGE_TOO_LARGE: Final = 10054


class PubAck(msgspec.Struct, frozen=True):
    """Where a stream put a message. `duplicate`: its message id was there already, at `seq`."""

    stream: str
    seq: int
    duplicate: bool = False


class _Error(msgspec.Struct):
    err_code: int = 0
    code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What a stream answers to a publish. `batch` and `count` only to the end of an atomic batch."""

    error: _Error | None = None
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    batch: str = ""
    count: int = 0


decode_answer = msgspec.json.Decoder(Answer).decode


class _Waiting:
    """One publish without its answer yet."""

    __slots__ = ("acked", "data", "deadline", "headers", "repeatable", "reply", "send_again_at", "subject")

    def __init__(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None,
        deadline: float,
        *,
        repeatable: bool,
    ) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.deadline = deadline
        self.repeatable = repeatable
        self.reply = ""
        self.send_again_at = monotonic() + ASK_AGAIN_AFTER_S
        self.acked: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()

    def hear(self, message: Msg) -> None:
        """Take the answer; nobody there counts as silence if it may be said again."""
        if self.acked.done():
            return
        if status_of(message) == NO_RESPONDERS:
            if self.repeatable:
                self.send_again_at = monotonic()
            else:
                self.fail(f"no stream takes {self.subject} now")
            return
        answer = decode_answer(message.data)
        if answer.error is not None:
            self.acked.set_exception(
                BrokerRefused(answer.error.err_code or answer.error.code, answer.error.description)
            )
        else:
            self.acked.set_result(PubAck(answer.stream, answer.seq, answer.duplicate))

    def fail(self, why: str) -> None:
        """No answer will come."""
        if not self.acked.done():
            self.acked.set_exception(Unavailable(why))


class Publisher:
    """Publishes to streams and waits for what they say.

    A publish with a message id is sent again, with the same id, after a disconnect, when no stream answers or
    all is silent, until its deadline; any other is sent once, and Unavailable then means that nobody knows.
    """

    def __init__(self, connection: Connection, *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self.connection = connection
        self._slots = asyncio.Semaphore(in_flight_max)
        self._numbers = count()
        self._waiting: dict[int, _Waiting] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch deadlines and the connection."""
        self.connection.on_disconnect(self._on_disconnect)
        self.connection.on_reconnect(self._on_reconnect)
        # Its owner is this publisher: it ends with stop() or with the loop.
        self._sweeping = asyncio.create_task(self._sweep())  # noqa: TID251

    async def stop(self) -> None:
        """Stop watching; who still waits is told that nobody knows."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for waiting in self._waiting.values():
            waiting.fail("the publisher stopped: the outcome is unknown")

    @property
    def in_flight(self) -> int:
        """How many publishes wait for their answer."""
        return len(self._waiting)

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        msg_id: str | None = None,
        ttl_s: int | None = None,
        deadline_s: float = 10.0,
    ) -> PubAck:
        """Store one message. BrokerRefused: the stream said no. Unavailable: stored or not, nobody knows."""
        if len(data) > self.connection.nc.max_payload:
            raise BrokerRefused(MESSAGE_TOO_LARGE, f"{len(data)} bytes are too many for one message")
        deadline = monotonic() + deadline_s
        async with self._slots:
            if monotonic() > deadline:
                raise Unavailable("too many publishes wait: not sent")
            if msg_id is None and not self.connection.connected:
                raise Unavailable("the broker is away: not sent")
            complete = complete_headers(headers, msg_id, ttl_s)
            waiting = _Waiting(subject, data, complete, deadline, repeatable=msg_id is not None)
            number = next(self._numbers)
            waiting.reply = self.connection.replies.expect(waiting.hear)
            self._waiting[number] = waiting
            try:
                if self.connection.connected:
                    await self._send(waiting)
                return await waiting.acked
            finally:
                del self._waiting[number]
                self.connection.replies.forget(waiting.reply)

    async def _send(self, waiting: _Waiting) -> None:
        waiting.send_again_at = monotonic() + ASK_AGAIN_AFTER_S
        await self.connection.publish(waiting.subject, waiting.data, waiting.reply, waiting.headers)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = monotonic()
            for waiting in list(self._waiting.values()):
                if waiting.acked.done():
                    continue
                if now > waiting.deadline:
                    waiting.fail(f"no answer on {waiting.subject} in time: the outcome is unknown")
                elif waiting.repeatable and now > waiting.send_again_at and self.connection.connected:
                    await self._send_again(waiting)

    async def _send_again(self, waiting: _Waiting) -> None:
        with contextlib.suppress(Unavailable):  # it broke again just now; the deadline decides
            await self._send(waiting)

    def _on_disconnect(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.repeatable:
                waiting.fail("the connection broke: the outcome is unknown")

    async def _on_reconnect(self) -> None:
        for waiting in list(self._waiting.values()):
            if waiting.repeatable and not waiting.acked.done():
                await self._send_again(waiting)


def complete_headers(
    headers: Mapping[str, str] | None, msg_id: str | None, ttl_s: int | None
) -> dict[str, str] | None:
    """The caller's headers and ours, in a dictionary of our own."""
    if msg_id is None and ttl_s is None:
        return dict(headers) if headers else None
    complete = dict(headers) if headers else {}
    if msg_id is not None:
        complete[MSG_ID] = msg_id
    if ttl_s is not None:
        complete[TTL] = str(ttl_s)
    return complete
