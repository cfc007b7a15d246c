"""Publishes in flight: each gets its own answer, or is told that nobody knows."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest

from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused, connect
from shared.runtime.directget import every
from shared.runtime.jetstream import EXPECTED
from shared.runtime.publish import MESSAGE_TOO_LARGE, Publisher, complete_headers
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

SOON_S = 15.0


class Press:
    """A publisher on the log, as the orchestrator."""

    def __init__(self, broker: LocalBroker, publisher: Publisher) -> None:
        self.broker = broker
        self.publisher = publisher

    async def stored(self, task: str = "*") -> list[str]:
        found = await every(self.publisher.connection, "EVENTS", f"evt.task.{task}")
        return [each.data.decode() for each in found]

    async def back(self) -> None:
        async with asyncio.timeout(SOON_S):
            while True:
                with suppress(Unavailable):
                    await self.stored()
                    return
                await asyncio.sleep(0.05)

    @contextmanager
    def silent_broker(self) -> Iterator[None]:
        """It keeps the connection, and says nothing."""
        os.kill(self.broker.process.pid, signal.SIGSTOP)
        os.waitid(
            os.P_PID, self.broker.process.pid, os.WSTOPPED
        )  # each of its threads: one could still answer
        try:
            yield
        finally:
            os.kill(self.broker.process.pid, signal.SIGCONT)


@pytest.fixture
async def press(broker: LocalBroker) -> AsyncIterator[Press]:
    ops = await connect(broker.settings("ops"))
    await ensure(ops, services=("gateway", "orchestrator"))
    await ops.close()
    connection = await connect(broker.settings("svc-orchestrator"))
    publisher = Publisher(connection)
    await publisher.start()
    yield Press(broker, publisher)
    await publisher.stop()
    await connection.close(drain=False)


async def test_each_of_many_gets_its_own_answer(press: Press) -> None:
    acks = await asyncio.gather(
        *(press.publisher.publish(f"evt.task.t{number}", str(number).encode()) for number in range(2_000))
    )

    stored = await press.stored()
    assert [stored[ack.seq - 1] for ack in acks] == list(map(str, range(2_000)))
    assert {ack.stream for ack in acks} == {"EVENTS"}
    assert press.publisher.in_flight == 0


async def test_no_more_are_in_flight_than_allowed(press: Press) -> None:
    narrow = Publisher(press.publisher.connection, in_flight_max=3)
    await narrow.start()
    most = 0

    async def publish(number: int) -> None:
        nonlocal most
        await narrow.publish(f"evt.task.t{number}", b"x")
        most = max(most, narrow.in_flight)

    await asyncio.gather(*(publish(number) for number in range(50)))

    assert most <= 3
    assert len(await press.stored()) == 50
    await narrow.stop()


async def test_a_refusal_carries_the_code(press: Press) -> None:
    await press.publisher.publish("evt.task.t", b"a", headers={EXPECTED: "0"})

    with pytest.raises(BrokerRefused) as refused:
        await press.publisher.publish("evt.task.t", b"b", headers={EXPECTED: "0"})

    assert refused.value.code == 10071


async def test_what_is_too_large_is_refused_before_it_is_sent(press: Press) -> None:
    with pytest.raises(BrokerRefused) as refused:
        await press.publisher.publish("evt.task.t", bytes(press.publisher.connection.nc.max_payload + 1))

    assert refused.value.code == MESSAGE_TOO_LARGE
    assert press.publisher.connection.connected


async def test_the_same_message_id_is_stored_once(press: Press) -> None:
    first = await press.publisher.publish("evt.task.t", b"a", msg_id="m")
    second = await press.publisher.publish("evt.task.t", b"a", msg_id="m")

    assert (first.seq, first.duplicate, second.duplicate) == (second.seq, False, True)
    assert await press.stored() == ["a"]


async def test_without_a_stream_and_without_an_id_it_is_unavailable_at_once(press: Press) -> None:
    began = monotonic()

    with pytest.raises(Unavailable):
        await press.publisher.publish("ctl.nobody", b"x")

    assert monotonic() - began < 5.0


async def test_silence_ends_at_the_deadline(press: Press) -> None:
    with press.silent_broker():
        began = monotonic()
        with pytest.raises(Unavailable):
            await press.publisher.publish("evt.task.t", b"x", deadline_s=0.5)

        assert 0.5 <= monotonic() - began < 2.5


async def test_without_an_id_a_broken_connection_is_said_at_once(press: Press) -> None:
    with press.silent_broker():
        waiting = asyncio.ensure_future(press.publisher.publish("evt.task.t", b"x", deadline_s=60))
        await asyncio.sleep(0)
        press.broker.kill()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(SOON_S):
                await waiting
        press.broker.restart()


async def test_with_an_id_it_is_said_again_until_the_broker_is_back(press: Press) -> None:
    press.broker.kill()
    waiting = [
        asyncio.ensure_future(
            press.publisher.publish(f"evt.task.t{number}", b"x", msg_id=f"m{number}", deadline_s=SOON_S)
        )
        for number in range(50)
    ]
    await asyncio.sleep(0)
    press.broker.restart()

    acks = await asyncio.gather(*waiting)

    assert sorted(ack.seq for ack in acks) == list(range(1, 51))
    assert len(await press.stored()) == 50


async def test_a_message_id_survives_that_the_broker_dies_again_and_again(press: Press) -> None:
    async def publish(number: int) -> None:
        await press.publisher.publish(f"evt.task.t{number}", b"x", msg_id=f"m{number}", deadline_s=40)

    async def write(writer: int) -> None:
        for number in range(100):
            await publish(writer * 1_000 + number)
            if writer == 0 and number % 40 == 20:
                press.broker.kill()
                press.broker.restart()

    await asyncio.gather(*(write(writer) for writer in range(20)))

    await press.back()
    assert len(await press.stored()) == 2_000


async def test_while_the_broker_is_away_what_must_not_be_repeated_is_not_sent(press: Press) -> None:
    press.broker.kill()
    async with asyncio.timeout(SOON_S):
        while press.publisher.connection.connected:
            await asyncio.sleep(0.01)

    with pytest.raises(Unavailable, match="not sent"):
        await press.publisher.publish("evt.task.t", b"x")

    press.broker.restart()
    await press.back()
    assert await press.stored() == []


async def test_who_stops_tells_those_who_wait(press: Press) -> None:
    with press.silent_broker():
        waiting = asyncio.ensure_future(press.publisher.publish("evt.task.t", b"x", deadline_s=60))
        await asyncio.sleep(0)
        await press.publisher.stop()

        with pytest.raises(Unavailable):
            await waiting


async def test_who_no_longer_waits_leaves_no_trace(press: Press) -> None:
    with press.silent_broker():
        waiting = asyncio.ensure_future(press.publisher.publish("evt.task.t", b"x"))
        await asyncio.sleep(0)
        assert press.publisher.in_flight == 1
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

        assert press.publisher.in_flight == 0


def test_the_callers_headers_are_left_as_they_are() -> None:
    mine = {"a": "b"}

    assert complete_headers(mine, "m", 2) == {"a": "b", "Nats-Msg-Id": "m", "Nats-TTL": "2"}
    assert mine == {"a": "b"}
    assert complete_headers(None, None, None) is None
