"""Who is active: one key for each service and colour, in a bucket whose keys vanish unless they are renewed.

The holder stops by its own clock before the key can vanish. A second runner for a moment does no harm all the
same: every effect is guarded by an expected sequence or a token.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from shared.contracts.naming import SEATS_BUCKET, bucket_stream, seat_key
from shared.contracts.words import SEAT_RENEWAL, SEAT_TTL
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import last_on
from shared.runtime.ids import short_token
from shared.runtime.jetstream import EXPECTED
from shared.runtime.publish import Publisher

MARGIN_S: Final = 0.2
ANSWER_WITHIN_S: Final = 1.0
_OPERATION: Final = "KV-Operation"
_log = logging.getLogger(__name__)

Word = Callable[[], Awaitable[None]]


class Seat:
    """The seat of one service and colour, tried for until it is held, renewed until it is lost."""

    def __init__(
        self, connection: Connection, publisher: Publisher, service: str, colour: str, instance: str
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._subject = f"$KV.{SEATS_BUCKET}.{seat_key(service, colour)}"
        self._sitter = f"{instance} {short_token(6)}".encode()
        self._revision = 0
        self._held_until = 0.0

    @property
    def held(self) -> bool:
        """Whether it is ours, by our own clock."""
        return monotonic() < self._held_until

    async def run(self, on_taken: Word, on_lost: Word) -> None:
        """Try, hold, try again, for ever; say each time that it was taken or lost."""
        while True:
            while not await self._take():  # noqa: ASYNC110 - the expiry of a key sends a watcher nothing
                await asyncio.sleep(SEAT_RENEWAL.total_seconds())
            _log.info("took the seat %s", self._subject)
            await on_taken()
            try:
                await self._keep()
            finally:
                self._held_until = 0.0
                await on_lost()
            _log.warning("lost the seat %s", self._subject)

    async def release(self) -> None:
        """Give it up, so that a standby need not wait."""
        if not self._revision:
            return
        try:
            await self._put(b"", self._revision, {_OPERATION: "DEL"})
        except BrokerRefused:
            _log.info("the seat %s was another's already", self._subject)
        self._revision = 0

    async def _take(self) -> bool:
        asked_at = monotonic()
        try:
            self._revision = await self._put(self._sitter, await self._free_at())
        except (BrokerRefused, Unavailable):
            return False
        self._hold(asked_at)
        return True

    async def _free_at(self) -> int:
        """The revision that a taker must name: 0 where nobody sits, or that of who gave it up."""
        last = await last_on(self._connection, bucket_stream(SEATS_BUCKET), self._subject)
        return last.sequence if last is not None and _OPERATION in last.headers else 0

    async def _keep(self) -> None:
        """Renew until that fails for too long, or someone else sits there."""
        while True:
            await asyncio.sleep(min(SEAT_RENEWAL.total_seconds(), max(0.0, self._held_until - monotonic())))
            if not self.held:
                return
            asked_at = monotonic()
            try:
                async with asyncio.timeout(self._held_until - monotonic()):
                    self._revision = await self._put(self._sitter, self._revision)
            except BrokerRefused:
                if not await self._sits_there():
                    return
                continue
            except (TimeoutError, Unavailable):
                continue
            self._hold(asked_at)

    async def _sits_there(self) -> bool:
        """Whether it is ours all the same: a renewal was stored, and only its answer was lost."""
        try:
            async with asyncio.timeout(self._held_until - monotonic()):
                last = await last_on(self._connection, bucket_stream(SEATS_BUCKET), self._subject)
        except (TimeoutError, Unavailable):
            return False
        if last is None or last.data != self._sitter:
            return False
        self._revision = last.sequence
        return True

    def _hold(self, asked_at: float) -> None:
        # The key lives from when the broker stored it, which was after we asked.
        self._held_until = asked_at + SEAT_TTL.total_seconds() - MARGIN_S

    async def _put(self, value: bytes, revision: int, headers: dict[str, str] | None = None) -> int:
        guarded = {EXPECTED: str(revision), **(headers or {})}
        ack = await self._publisher.publish(self._subject, value, headers=guarded, deadline_s=ANSWER_WITHIN_S)
        return ack.seq
