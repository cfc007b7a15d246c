"""The object store FILES: bytes named by their SHA-256, in the form that `nats object` reads.

A file's chunks lie on a subject of their own; its record, which names them, is written last. So a file is
there whole or not at all, and the same bytes are stored once.
"""

import base64
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from shared.contracts.naming import FILES, object_stream
from shared.contracts.orchestrator.facts import FileRef
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import every, last_on
from shared.runtime.ids import new_id
from shared.runtime.publish import Publisher

CHUNK_BYTES: Final = 128 * 1024
_STREAM: Final = object_stream(FILES)


class FileStore(Protocol):
    """Bytes by what they are."""

    async def put(self, data: bytes) -> FileRef:
        """Keep them; twice is once. Unavailable: perhaps kept, ask again."""
        ...

    async def get(self, digest: str) -> bytes | None:
        """The bytes with this SHA-256 (hex); None if there are none."""
        ...


class _Options(msgspec.Struct):
    max_chunk_size: int = CHUNK_BYTES


class _Record(msgspec.Struct):
    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    options: _Options = msgspec.field(default_factory=_Options)


class JetStreamFiles:
    """The FileStore over JetStream."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher

    async def put(self, data: bytes) -> FileRef:
        """Keep them; twice is once."""
        digest = sha256(data)
        name = digest.hexdigest()
        if await self._record(name) is None:
            place = new_id()
            chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
            record = _Record(
                name=name,
                bucket=FILES,
                nuid=place,
                size=len(data),
                chunks=len(chunks),
                digest=f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
            )
            try:
                for number, chunk in enumerate(chunks):
                    await self._publisher.publish(_chunks(place), chunk, msg_id=f"{place}:{number}")
                rollup = {"Nats-Rollup": "sub"}
                await self._publisher.publish(_named(name), encode(record), headers=rollup, msg_id=place)
            except BrokerRefused as refused:
                raise Unavailable(f"the file cannot be stored: {refused}") from refused
        return FileRef(sha256=name, size_bytes=len(data))

    async def get(self, digest: str) -> bytes | None:
        """The bytes, checked against their name."""
        record = await self._record(digest)
        if record is None:
            return None
        data = b"".join(
            [found.data for found in await every(self._connection, _STREAM, _chunks(record.nuid))]
        )
        if sha256(data).hexdigest() != digest:
            raise Unavailable(f"the file {digest} is damaged")
        return data

    async def _record(self, name: str) -> _Record | None:
        found = await last_on(self._connection, _STREAM, _named(name))
        return None if found is None else msgspec.json.decode(found.data, type=_Record)


def _chunks(place: str) -> str:
    return f"$O.{FILES}.C.{place}"


def _named(name: str) -> str:
    return f"$O.{FILES}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
