"""A service's whole process, in this loop, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from shared.contracts.naming import SEATS_BUCKET, bucket_stream, seat_key
from shared.kernel.messages import Committed
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.directget import last_on
from shared.runtime.intake import Route
from shared.runtime.process import LogReplaced, Process
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker
from tests.support.notes import NOTE, NOTE_CODEC, NoteRequest, WriteNote

SERVICE = "orchestrator"
BAD = (
    b'{"id":"i","at":"2026-01-01T12:00:00Z","actor":"a","cause":"c","chain":"h",'
    b'"facts":[{"fact":"NoteSung"}]}'
)


def assemble(runtime: Runtime) -> Assembly:
    notes = runtime.handler(NOTE, "pool", NOTE_CODEC)
    view = runtime.follow("notes", {"pool": NOTE_CODEC}, lambda _: None)
    return Assembly(commands=[Route(NoteRequest, notes)], views=[view])


class House:
    """A process at work, and a gateway."""

    def __init__(self, broker: LocalBroker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self._stack = stack
        self.gateway: Connection
        self.send: Sender

    async def open(self) -> None:
        ops = await connect(self.broker.settings("ops"))
        await ensure(ops, services=("gateway", SERVICE))
        await ops.close()
        self.gateway = await self.connect("gateway")
        publisher = await self.publisher(self.gateway)
        self.send = Sender(self.gateway, publisher)
        await self.send.start()

    async def connect(self, sender: str) -> Connection:
        connection = await connect(self.broker.settings(sender))
        self._stack.push_async_callback(connection.close)
        return connection

    async def publisher(self, connection: Connection) -> Publisher:
        publisher = Publisher(connection)
        await publisher.start()
        self._stack.push_async_callback(publisher.stop)
        return publisher

    def process_of_the_owner(self) -> Process:
        return Process(SERVICE, self.broker.settings("svc-orchestrator"), assemble)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Process]:
        process = self.process_of_the_owner()
        task = asyncio.ensure_future(process.main())
        try:
            yield process
        finally:
            process._stop.set()
            await task


@pytest.fixture
async def house(broker: LocalBroker) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(broker, stack)
        await house.open()
        yield house


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"service": SERVICE, **labels})


async def until_metric(name: str, wanted: float, **labels: str) -> None:
    async with asyncio.timeout(15):
        while metric(name, **labels) != wanted:
            await asyncio.sleep(0.01)


async def test_who_can_no_longer_read_the_log_says_so_gives_up_its_seat_and_decides_nothing(
    house: House,
) -> None:
    async with house.process() as process:
        assert isinstance(await house.send(WriteNote(note_id="n", text="a"), actor="k", wait_s=10), Committed)
        await until_metric("hive_partitions_owned", 128, colour="blue")
        assert metric("hive_seat_held", colour="blue") == 1
        owner = await house.publisher(await house.connect("svc-orchestrator"))
        await owner.publish("evt.pool.other", BAD)

        await until_metric("hive_seat_held", 0, colour="blue")
        await until_metric("hive_view_lag_facts", 1, view="notes")
        assert metric("hive_partitions_owned", colour="blue") == 0
        assert "NoteSung" in " ".join(process._ready_problems())
        assert await house.send(WriteNote(note_id="n", text="b"), actor="k", wait_s=0.5) is None
        async with asyncio.timeout(10):
            while not await free(house):
                await asyncio.sleep(0)


async def free(house: House) -> bool:
    key = f"$KV.{SEATS_BUCKET}.{seat_key(SERVICE, 'blue')}"
    last = await last_on(house.gateway, bucket_stream(SEATS_BUCKET), key)
    return last is None or "KV-Operation" in last.headers


async def test_a_process_whose_log_was_made_again_ends_so_that_its_views_are_built_again(
    house: House,
) -> None:
    process = asyncio.ensure_future(house.process_of_the_owner().main())
    await house.send(WriteNote(note_id="n", text="a"), actor="k", wait_s=10)
    ops = await house.connect("ops")
    await ops.api("STREAM.DELETE.EVENTS")
    await ensure(ops, services=("gateway", SERVICE))

    with pytest.RaisesGroup(LogReplaced):
        async with asyncio.timeout(15):
            await process
