"""The owner of notes with its command queue on a real broker, and a gateway that asks it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from shared.contracts.dead import DeadLetter, ListDead
from shared.contracts.naming import command_consumer, command_stream
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.dead import DeadLetterBox
from shared.runtime.directget import every
from shared.runtime.handler import Effects, Handler
from shared.runtime.ids import new_id
from shared.runtime.intake import Intake, Route
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.pull import PullConsumer
from shared.runtime.queue import CommandQueue
from shared.runtime.refusals import Refusals
from shared.runtime.suspects import Suspects
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker
from tests.support.notes import NOON, NOTE, NOTE_CODEC, Note, NoteFact, NoteRequest

SERVICE = "orchestrator"


class Bench:
    """The owner of notes at work on one side, a gateway on the other."""

    def __init__(self, broker: LocalBroker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self._stack = stack
        self.owner: Connection
        self.gateway: Connection
        self.send: Sender
        self.dead: DeadLetterBox
        self.store: JetStreamStore

    async def open(self) -> None:
        ops = await connect(self.broker.settings("ops"))
        await ensure(ops, services=("gateway", SERVICE))
        await ops.close()
        self.owner = await self.connect("svc-orchestrator")
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

    async def handler(
        self, effects: Effects[NoteRequest, NoteFact] | None = None
    ) -> Handler[Note, NoteRequest, NoteFact]:
        publisher = await self.publisher(self.owner)
        self.store = JetStreamStore(self.owner, publisher)
        self.dead = DeadLetterBox(SERVICE, self.owner, publisher)
        return Handler(NOTE, "pool", NOTE_CODEC, self.store, now=lambda: NOON, new_id=new_id, effects=effects)

    @asynccontextmanager
    async def working(
        self, handler: Handler[Note, NoteRequest, NoteFact], pulls: type[PullConsumer] = PullConsumer
    ) -> AsyncIterator[None]:
        publisher = await self.publisher(self.owner)
        queue = CommandQueue(
            SERVICE,
            self.owner,
            Intake([Route(NoteRequest, handler)]),
            dead=self.dead,
            suspects=Suspects(SERVICE, self.owner, publisher),
            refusals=Refusals(SERVICE, self.store, lambda: NOON),
        )
        consumer = pulls(self.owner, command_stream(SERVICE), command_consumer(SERVICE, "blue"))
        task = asyncio.ensure_future(queue.run(consumer))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def limit(self, stream: str, *, max_bytes: int) -> None:
        """As if the disk had so much room for it."""
        async with self.broker.client("ops") as client:
            info = await client.jetstream().stream_info(stream)
            await client.jetstream().update_stream(info.config.evolve(max_bytes=max_bytes))

    async def deliver_in_vain(self, times: int) -> None:
        """As if a process died of what it was given, so many times."""
        consumer = PullConsumer(self.owner, command_stream(SERVICE), command_consumer(SERVICE, "blue"))
        async for deliveries in consumer.batches():
            for delivery in deliveries:
                if delivery.delivered >= times:
                    await consumer.stop()
                await delivery.nak(0)

    async def waiting(self) -> int:
        return len(await every(self.gateway, command_stream(SERVICE), "cmd.>"))

    async def letters(self) -> list[DeadLetter]:
        return (await self.dead.list(ListDead())).items

    async def nothing_waits(self) -> bool:
        return await self.waiting() == 0


async def until(check: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until an awaitable check answers something true."""
    async with asyncio.timeout(within_s):
        while not await check():  # type: ignore[misc]
            await asyncio.sleep(0)
