"""Watches a bucket: each value that stands there is told, and told again when it changes or goes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.contracts.naming import bucket_stream, bucket_subject
from shared.kernel.errors import Unavailable
from shared.runtime.connection import Connection
from shared.runtime.directget import Found, following, last_on
from shared.runtime.ids import jittered

V = TypeVar("V")

AGAIN_AFTER_S: Final = 1.0
STORED_WITHIN_S: Final = (0.002, 0.01, 0.05, 0.2, 0.5, 0.0)
OPERATION: Final = "KV-Operation"
"""On what a bucket holds in place of a value that was taken back."""

_log = logging.getLogger(__name__)


class BucketWatch(Generic[V]):
    """Tells the values of a bucket whose keys fit `under`; a key is told by what stands for its last `*`.

    What is told stays true while who writes the bucket is away, or the broker is. A value that cannot be
    read, or that `tell` does not take (ValueError), is said to be wrong and left out: the last one stays.
    """

    def __init__(
        self,
        connection: Connection,
        bucket: str,
        kind: type[V],
        tell: Callable[[str, V | None], None],
        *,
        under: str = "*",
    ) -> None:
        self._connection = connection
        self._bucket = bucket
        self._subject = bucket_subject(bucket, under)
        self._decoder = msgspec.json.Decoder(kind)
        self._tell = tell
        self._one_by_one = asyncio.Lock()
        self._told: set[str] = set()
        self._sequences: dict[str, int] = {}

    async def run(self) -> None:
        """Tell what stands there; then each change, and after a reconnect whatever changed meanwhile."""
        await self._connection.subscribe(self._subject, self._on_change)
        self._connection.on_reconnect(self._on_reconnect)
        await self._read_until_answered()

    async def _on_change(self, message: Msg) -> None:
        async with self._one_by_one:
            try:
                found = await self._stored(message)
            except Unavailable as away:
                _log.warning("%s could not be read: %s", message.subject, away)
            else:
                self._take(message.subject, found)

    async def _stored(self, message: Msg) -> Found | None:
        """What stands there now that something was published.

        Only what is stored counts: the bucket may refuse it, and a listener hears it before it is stored.
        """
        known = self._sequences.get(message.subject, 0)
        for wait_s in STORED_WITHIN_S:
            found = await last_on(self._connection, bucket_stream(self._bucket), message.subject)
            if found is not None and (found.sequence > known or found.data == message.data):
                break
            await asyncio.sleep(wait_s)
        return found

    async def _on_reconnect(self) -> None:
        try:
            await self._read()
        except Unavailable as away:
            _log.warning("bucket %s could not be read: %s", self._bucket, away)

    async def _read_until_answered(self) -> None:
        while True:
            try:
                return await self._read()
            except Unavailable as away:
                _log.info("bucket %s is read again: %s", self._bucket, away)
                await asyncio.sleep(jittered(AGAIN_AFTER_S))

    async def _read(self) -> None:
        async with self._one_by_one:
            found: dict[str, Found] = {}
            more, after = True, 0
            while more:
                batch, more = await following(
                    self._connection, bucket_stream(self._bucket), self._subject, after
                )
                found |= {each.subject: each for each in batch}
                after = batch[-1].sequence if batch else after
            for subject in sorted(self._told | found.keys()):
                self._take(subject, found.get(subject))

    def _take(self, subject: str, found: Found | None) -> None:
        key = subject.rpartition(".")[2]
        self._sequences[subject] = 0 if found is None else found.sequence
        gone = found is None or OPERATION in found.headers
        if gone and subject not in self._told:
            return
        try:
            self._tell(key, None if found is None or gone else self._decoder.decode(found.data))
        except ValueError as error:  # msgspec's own are of this kind, too
            _log.error("%s in bucket %s is not valid and is not taken: %s", key, self._bucket, error)
            return
        if gone:
            self._told.discard(subject)
        else:
            self._told.add(subject)
