"""What one pull consumer delivers to one inbox: requests, credit, heartbeats, and what can go wrong."""

import asyncio
import contextlib
import logging
from enum import Enum
from typing import Final, NamedTuple

import msgspec
from nats.aio.msg import Msg  # noqa: TID251
from nats.aio.subscription import Subscription  # noqa: TID251
from nats.errors import Error as NatsError  # noqa: TID251

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection, status_of

NANOSECONDS: Final = 1_000_000_000
ACK_TOKENS_V1: Final = 9

_log = logging.getLogger(__name__)


class Trouble(Enum):
    """Why nothing more will come on this inbox."""

    GONE = "the consumer is not there"
    BROKEN = "the request was dropped"


class Place(NamedTuple):
    """How often a message was delivered, and its numbers in the stream and in the consumer."""

    delivered: int
    stream_sequence: int
    consumer_sequence: int


def place_of(ack_subject: str) -> Place:
    """Read `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.…`."""
    tokens = ack_subject.split(".")
    first = 4 if len(tokens) == ACK_TOKENS_V1 else 6
    return Place(int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 2]))


class _Pull(msgspec.Struct):
    batch: int
    expires: int
    idle_heartbeat: int


class Feed:
    """Deliveries of one consumer. It is opened once; after trouble another one takes its place.

    `credit`: how many messages are asked for and have not come. Never more than `want` are asked for or lie
    here.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        *,
        expires_s: float,
        heartbeat_s: float,
    ) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._expires = int(expires_s * NANOSECONDS)
        self._heartbeat = int(heartbeat_s * NANOSECONDS)
        self._silence_max_s = 2 * heartbeat_s + 0.5
        self._inbox = connection.inbox()
        self._subscription: Subscription | None = None
        self._heard_at = monotonic()
        self._news = asyncio.Event()
        self.arrived: list[Msg] = []
        self.credit = 0
        self.answered = False
        self.trouble: Trouble | None = None

    async def open(self) -> None:
        """Begin to listen."""
        self._subscription = await self._connection.subscribe(self._inbox, self._hear)

    async def close(self) -> None:
        """Stop listening: the broker drops what is asked for, and nothing of it counts as delivered."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(NatsError):  # the connection is closing or closed, and with it this
                await subscription.unsubscribe()

    async def ask(self, want: int) -> None:
        """Ask for what is missing up to `want`, unless half of it is still on its way."""
        missing = want - self.credit - len(self.arrived)
        if missing <= 0 or 2 * missing < want or self.trouble is not None:
            return
        if self.credit == 0:
            self._heard_at = monotonic()
        self.credit += missing
        request = encode(_Pull(missing, self._expires, self._heartbeat))
        try:
            await self._connection.publish(self._subject, request, self._inbox)
        except Unavailable:
            self.stop(Trouble.BROKEN)

    async def news(self) -> list[Msg]:
        """Wait until something came, a request ended, or there is trouble; what came, perhaps nothing."""
        if not self.arrived and self.trouble is None:
            try:
                async with asyncio.timeout(self._silence_max_s):
                    await self._news.wait()
            except TimeoutError:
                self._check_silence()
        self._news.clear()
        arrived, self.arrived = self.arrived, []
        return arrived

    def stir(self) -> None:
        """Let `news` return now."""
        self._news.set()

    def stop(self, trouble: Trouble) -> None:
        """Nothing more will come here."""
        self.trouble = trouble
        self.credit = 0
        self._news.set()

    def _check_silence(self) -> None:
        if self.credit > 0 and monotonic() - self._heard_at >= self._silence_max_s:
            _log.warning("%s: heartbeats are missing", self._subject)
            self.stop(Trouble.BROKEN)

    async def _hear(self, message: Msg) -> None:
        self._heard_at = monotonic()
        status = status_of(message)
        if not status:
            self.answered = True
            self.credit = max(0, self.credit - 1)
            self.arrived.append(message)
            self._news.set()
        elif status != "100":
            self._hear_end(status, message.headers or {})

    def _hear_end(self, status: str, headers: dict[str, str]) -> None:
        description = headers.get("Description", "").strip().lower()
        match status:
            case "404" | "408":  # the request has ended; so many of it did not come
                self.answered = True
                self.credit = max(0, self.credit - int(headers.get("Nats-Pending-Messages", self.credit)))
                self._news.set()
            case "503":
                self.stop(Trouble.GONE)
            case "409" if "deleted" in description:
                self.stop(Trouble.GONE)
            case _:
                _log.warning("%s: the broker says %s %s", self._subject, status, description)
                self.stop(Trouble.BROKEN)
