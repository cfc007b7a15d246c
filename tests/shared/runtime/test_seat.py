"""One holder of a seat; the next one soon after it is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from shared.contracts.words import SEAT_TTL
from shared.runtime.connection import connect
from shared.runtime.publish import Publisher
from shared.runtime.seat import Seat
from shared.runtime.topology import ensure, ensure_volatile
from tests.support.nats_server import LocalBroker

SOON_S = 5 * SEAT_TTL.total_seconds()


class Candidate:
    """A process that wants the seat."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.taken = asyncio.Event()
        self.lost = asyncio.Event()
        self.task = asyncio.ensure_future(seat.run(self._on_taken, self._on_lost))

    async def _on_taken(self) -> None:
        self.lost.clear()
        self.taken.set()

    async def _on_lost(self) -> None:
        self.taken.clear()
        self.lost.set()

    async def die(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Room:
    def __init__(self, broker: LocalBroker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self._stack = stack

    async def enter(self, instance: str) -> Candidate:
        connection = await connect(self.broker.settings("svc-orchestrator"))
        self._stack.push_async_callback(connection.close)
        publisher = Publisher(connection)
        await publisher.start()
        self._stack.push_async_callback(publisher.stop)

        async def again() -> None:
            await ensure_volatile(connection)

        connection.on_reconnect(again)
        candidate = Candidate(Seat(connection, publisher, "orchestrator", "blue", instance))
        self._stack.push_async_callback(candidate.die)
        return candidate


@pytest.fixture
async def room(broker: LocalBroker) -> AsyncIterator[Room]:
    ops = await connect(broker.settings("ops"))
    await ensure(ops, services=("gateway", "orchestrator"))
    await ops.close()
    async with AsyncExitStack() as stack:
        yield Room(broker, stack)


async def test_one_holds_the_seat_and_the_other_waits(room: Room) -> None:
    first, second = await room.enter("one"), await room.enter("two")

    done, _ = await asyncio.wait(
        [asyncio.ensure_future(each.taken.wait()) for each in (first, second)],
        timeout=SEAT_TTL.total_seconds() * 1.5,
    )

    assert len(done) == 1
    assert first.seat.held != second.seat.held


async def test_the_standby_sits_down_when_the_holder_died(room: Room) -> None:
    first = await room.enter("one")
    async with asyncio.timeout(SOON_S):
        await first.taken.wait()
    second = await room.enter("two")

    await first.die()

    async with asyncio.timeout(SOON_S):
        await second.taken.wait()


async def test_a_seat_given_up_is_free_at_once(room: Room) -> None:
    first = await room.enter("one")
    async with asyncio.timeout(SOON_S):
        await first.taken.wait()
    await first.die()
    await first.seat.release()

    second = await room.enter("two")

    assert await second.seat._take()


async def test_a_holder_that_the_broker_left_stops_by_its_own_clock_and_sits_again_later(room: Room) -> None:
    first = await room.enter("one")
    async with asyncio.timeout(SOON_S):
        await first.taken.wait()

    room.broker.kill()
    async with asyncio.timeout(SOON_S):
        await first.lost.wait()
    assert not first.seat.held
    room.broker.restart()

    async with asyncio.timeout(SOON_S):
        await first.taken.wait()


async def test_a_renewal_whose_answer_was_lost_costs_nobody_the_seat(room: Room) -> None:
    one = await room.enter("one")
    async with asyncio.timeout(SOON_S):
        await one.taken.wait()
    unknown = await one.seat._put(one.seat._sitter, one.seat._revision)

    async with asyncio.timeout(SOON_S):
        while one.seat._revision <= unknown:
            assert not one.lost.is_set()
            await asyncio.sleep(0.01)
    assert one.seat.held
