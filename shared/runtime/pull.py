"""The continuous pull consumer: whatever a durable consumer has for us, as soon as it has it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.kernel.errors import Unavailable
from shared.runtime.connection import Connection
from shared.runtime.feed import NANOSECONDS, Feed, Trouble, place_of
from shared.runtime.ids import jittered

BATCH: Final = 256
EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 1.0
LOOK_AGAIN_AFTER_S: Final = 1.0  # for a consumer that is not there
ASK_AGAIN_AFTER_S: Final = 0.1  # when a request was dropped
PROGRESS_EVERY_S: Final = 0.5  # for what lies here untaken: its ack wait is 2 s
CONFIRMED_WITHIN_S: Final = 2.0

_log = logging.getLogger(__name__)


class _Nak(msgspec.Struct):
    delay: int


class Delivery:
    """One delivered message, ours until it is acked or its ack wait ends. `delivered` counts from 1."""

    __slots__ = ("_connection", "_reply", "data", "delivered", "headers", "sequence", "subject")

    def __init__(self, connection: Connection, message: Msg) -> None:
        place = place_of(message.reply)
        self._connection = connection
        self._reply = message.reply
        self.subject = message.subject
        self.data = message.data
        self.headers: Mapping[str, str] = message.headers or {}
        self.sequence = place.stream_sequence
        self.delivered = place.delivered

    async def ack(self) -> None:
        """Done with it; not confirmed: a lost ack means a redelivery."""
        await self._connection.publish(self._reply, b"+ACK")

    async def ack_confirmed(self) -> None:
        """Done with it, and the broker knows. Unavailable: perhaps it does not."""
        await self._connection.request(self._reply, b"+ACK", timeout=CONFIRMED_WITHIN_S)

    async def nak(self, delay_s: float) -> None:
        """Not now: deliver it again after so many seconds."""
        nak = msgspec.json.encode(_Nak(int(delay_s * NANOSECONDS)))
        await self._connection.publish(self._reply, b"-NAK " + nak)

    async def progress(self) -> None:
        """Still at it: the ack wait starts anew."""
        await self._connection.publish(self._reply, b"+WPI")

    async def term(self, reason: str) -> None:
        """Never deliver it again."""
        await self._connection.publish(self._reply, b"+TERM " + reason.replace("\n", " ").encode())


class PullConsumer:
    """Deliveries of a durable consumer, batch by batch, for as long as it is listened to.

    At most `want` messages are asked for or lie here untaken; a bot sets it to its free slots. A consumer
    that is not there is looked for each second; `on_gone` is told when it is missed. Who takes everything at
    once, as a bot does, need not `keep_untaken`, and then wakes up for nothing while it is idle.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        *,
        batch: int = BATCH,
        expires_s: float = EXPIRES_S,
        heartbeat_s: float = HEARTBEAT_S,
        on_gone: Callable[[], None] | None = None,
        keep_untaken: bool = True,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer = consumer
        self._expires_s = expires_s
        self._heartbeat_s = heartbeat_s
        self._on_gone = on_gone
        self._keeps_untaken = keep_untaken
        self._want = batch
        self._stopped = False
        self._feed: Feed | None = None
        self.gone = False

    @property
    def want(self) -> int:
        """How many messages may be on their way or lie here at a time."""
        return self._want

    @want.setter
    def want(self, want: int) -> None:
        self._want = want
        if self._feed is not None:
            self._feed.stir()

    async def batches(self) -> AsyncGenerator[list[Delivery], None]:
        """Whatever has arrived, as soon as something has, until stop()."""
        undo = self._connection.on_reconnect(self._begin_again)
        # Its owner is this iteration: it is cancelled at its end.
        keeping = asyncio.create_task(self._keep_untaken())  # noqa: TID251
        try:
            while not self._stopped:
                async with contextlib.aclosing(self._batches_of_one_feed()) as batches:
                    async for batch in batches:
                        yield batch
        finally:
            undo()
            keeping.cancel()

    async def stop(self) -> None:
        """Ask for nothing more; what lies here untaken is given back at once."""
        self._stopped = True
        feed = self._feed
        if feed is None:
            return
        with contextlib.suppress(Unavailable):
            await feed.close()
            for message in feed.arrived:
                await Delivery(self._connection, message).nak(0)
        feed.arrived.clear()
        feed.stop(Trouble.BROKEN)

    async def _batches_of_one_feed(self) -> AsyncGenerator[list[Delivery], None]:
        feed = Feed(
            self._connection,
            self._stream,
            self._consumer,
            expires_s=self._expires_s,
            heartbeat_s=self._heartbeat_s,
        )
        self._feed = feed
        try:
            await feed.open()
            while not self._stopped:
                await feed.ask(self._want)
                arrived = await feed.news()
                if arrived:
                    yield [Delivery(self._connection, message) for message in arrived]
                if feed.answered and self.gone:
                    self._note_back()
                if feed.trouble is not None and not feed.arrived:
                    break
        except Unavailable as error:
            _log.info("%s of %s: %s", self._consumer, self._stream, error)
            feed.stop(Trouble.BROKEN)
        finally:
            await feed.close()
        if self._stopped:
            return
        if feed.trouble is Trouble.GONE:
            self._note_gone()
            await asyncio.sleep(LOOK_AGAIN_AFTER_S)
        else:
            # On a connection that is closed for good nothing else would let the loop breathe.
            await asyncio.sleep(jittered(ASK_AGAIN_AFTER_S))

    async def _begin_again(self) -> None:
        """The broker came back: what was asked for before is forgotten there."""
        if self._feed is not None:
            self._feed.stop(Trouble.BROKEN)

    async def _keep_untaken(self) -> None:
        """What lies here untaken is still worked towards: its ack wait starts anew."""
        while self._keeps_untaken and not self._stopped:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if self._feed is not None:
                for message in list(self._feed.arrived):
                    with contextlib.suppress(Unavailable):
                        await self._connection.publish(message.reply, b"+WPI")

    def _note_gone(self) -> None:
        if not self.gone:
            self.gone = True
            _log.warning("%s has no consumer %s: looking for it each second", self._stream, self._consumer)
            if self._on_gone is not None:
                self._on_gone()

    def _note_back(self) -> None:
        self.gone = False
        _log.info("consumer %s of %s is there again", self._consumer, self._stream)
