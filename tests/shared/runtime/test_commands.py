"""Sending commands: each caller hears what became of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from shared.contracts.naming import REPLY_HEADER, command_stream
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.words import TaskId
from shared.kernel.codec import encode
from shared.kernel.messages import Committed, Outcome
from shared.runtime.commands import Sender, Sending
from shared.runtime.connection import Connection, connect
from shared.runtime.directget import every
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure, ensure_volatile
from tests.support.nats_server import LocalBroker

CANCEL = CancelTask(task_id=TaskId("t1"))
WITHIN_S = 5.0


class Ends:
    """The gateway, which sends, and the owner, which answers what it finds in its queue."""

    def __init__(self, sender: Sender, owner: Connection) -> None:
        self.sender = sender
        self.owner = owner

    async def answer(self, sequence: int) -> int:
        """Answer each waiting command once, as soon as there is one; how many there were."""
        async with asyncio.timeout(WITHIN_S):
            while not (
                waiting := await every(self.owner, command_stream("orchestrator"), "cmd.orchestrator.>")
            ):
                await asyncio.sleep(0.01)
        for stored in waiting:
            reply = stored.headers[REPLY_HEADER]
            outcome = Committed(command_id=reply.rpartition(".")[2], sequence=sequence)
            await self.owner.publish(reply, encode(outcome))
        return len(waiting)


@pytest.fixture
async def ends(broker: LocalBroker) -> AsyncIterator[Ends]:
    async with AsyncExitStack() as stack:

        async def connected(sender: str) -> Connection:
            connection = await connect(broker.settings(sender))
            stack.push_async_callback(connection.close)
            return connection

        await ensure(await connected("ops"))
        gateway = await connected("gateway")
        await ensure_volatile(gateway)
        publisher = Publisher(gateway)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        sender = Sender(gateway, publisher)
        await sender.start()
        yield Ends(sender, await connected("svc-orchestrator"))


async def test_who_sends_the_same_command_at_the_same_time_hears_the_same_outcome(ends: Ends) -> None:
    heard: list[Outcome | None] = []

    async def send() -> None:
        heard.append(await ends.sender(CANCEL, actor="a", command_id="c1", wait_s=WITHIN_S))

    async def send_among_others() -> None:
        among = [Sending(command=CANCEL, actor="a", command_id="c1") for _ in range(2)]
        for outcome in await ends.sender.many(among, wait_s=WITHIN_S):
            assert outcome is None or isinstance(outcome, Committed)
            heard.append(outcome)

    async with asyncio.timeout(2 * WITHIN_S), asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(send())
        tasks.create_task(send_among_others())
        stored = await ends.answer(7)

    assert stored == 1
    assert heard == [Committed(command_id="c1", sequence=7)] * 4
    assert ends.sender._waiting == {}


async def test_one_that_does_not_wait_takes_nothing_from_one_that_does(ends: Ends) -> None:
    async with asyncio.timeout(2 * WITHIN_S), asyncio.TaskGroup() as tasks:
        patient = tasks.create_task(ends.sender(CANCEL, actor="a", command_id="c1", wait_s=WITHIN_S))
        hasty = tasks.create_task(ends.sender(CANCEL, actor="a", command_id="c1", wait_s=0))
        assert await hasty is None
        await ends.answer(8)

    assert patient.result() == Committed(command_id="c1", sequence=8)
