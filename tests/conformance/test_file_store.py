"""What a FileStore promises: bytes by what they are, whole or not at all, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from shared.contracts.naming import FILES, object_stream
from shared.runtime.connection import connect
from shared.runtime.directget import every
from shared.runtime.files import CHUNK_BYTES, FileStore, JetStreamFiles
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure
from tests.services.orchestrator.workshop import MemoryFiles
from tests.support.nats_server import LocalBroker

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 1_000_000]


@asynccontextmanager
async def jetstream(folder: Path) -> AsyncIterator[JetStreamFiles]:
    broker = LocalBroker(folder)
    try:
        ops = await connect(broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        connection = await connect(broker.settings("svc-orchestrator"))
        publisher = Publisher(connection)
        await publisher.start()
        yield JetStreamFiles(connection, publisher)
        await publisher.stop()
        await connection.close()
    finally:
        broker.close()


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[MemoryFiles]:
    yield MemoryFiles()


@pytest.fixture(params=[memory, pytest.param(jetstream, marks=pytest.mark.nats)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FileStore]:
    async with request.param(tmp_path) as store:
        yield store


def content(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_got_by_its_hash(store: FileStore, size: int) -> None:
    data = content(size)
    ref = await store.put(data)
    assert (ref.sha256, ref.size_bytes) == (sha256(data).hexdigest(), size)
    assert await store.get(ref.sha256) == data


async def test_the_same_bytes_put_again_are_the_same_file(store: FileStore) -> None:
    first = await store.put(content(1000))
    assert await store.put(content(1000)) == first
    async with asyncio.TaskGroup() as group:
        puts = [group.create_task(store.put(content(300_000))) for _ in range(4)]
    assert len({put.result() for put in puts}) == 1
    assert await store.get(puts[0].result().sha256) == content(300_000)


async def test_a_hash_that_nobody_put_is_nothing(store: FileStore) -> None:
    assert await store.get("0" * 64) is None


@pytest.mark.nats
async def test_the_same_bytes_lie_in_the_stream_once(tmp_path: Path) -> None:
    async with jetstream(tmp_path) as files:
        for _ in range(3):
            await files.put(content(CHUNK_BYTES * 2))
        chunks = await every(files._connection, object_stream(FILES), f"$O.{FILES}.C.*")
        assert len(chunks) == 2
