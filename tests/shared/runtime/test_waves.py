"""Many publishes at once: each has its own end, whether they went together or one by one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, connect
from shared.runtime.directget import every
from shared.runtime.jetstream import EXPECTED
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure
from shared.runtime.waves import BATCH_FROM, BATCH_S, Waves
from tests.support.nats_server import LocalBroker

Publish = Callable[[str, int], "asyncio.Task[int]"]


class Shore:
    """Waves on the log of a broker, as the orchestrator."""

    def __init__(self, broker: LocalBroker, publisher: Publisher) -> None:
        self.broker = broker
        self.publisher = publisher
        self.waves = Waves(publisher)
        self.waves._single_s = 1.0  # as if singles were slow

    def publish(self, task: str, expected: int = 0) -> "asyncio.Future[int]":
        headers = {EXPECTED: str(expected)}
        return asyncio.ensure_future(
            self.waves.publish(f"evt.task.{task}", task.encode(), headers, deadline_s=5.0)
        )

    async def stored(self) -> list[str]:
        """All that is there, as soon as the broker is."""
        async with asyncio.timeout(20):
            while True:
                with suppress(Unavailable):
                    found = await every(self.publisher.connection, "EVENTS", "evt.task.*")
                    return [each.data.decode() for each in found]
                await asyncio.sleep(0.05)


@pytest.fixture
async def shore(broker: LocalBroker) -> AsyncIterator[Shore]:
    ops = await connect(broker.settings("ops"))
    await ensure(ops, services=("gateway", "orchestrator"))
    await ops.close()
    connection = await connect(broker.settings("svc-orchestrator"))
    publisher = Publisher(connection)
    await publisher.start()
    yield Shore(broker, publisher)
    await publisher.stop()
    await connection.close()


async def test_each_of_many_learns_its_own_sequence(shore: Shore) -> None:
    sequences = await asyncio.gather(*(shore.publish(f"t{number}") for number in range(200)))

    for found in await every(shore.publisher.connection, "EVENTS", "evt.task.*"):
        assert sequences[int(found.data[1:])] == found.sequence


async def test_one_that_lost_the_race_fails_alone(shore: Shore) -> None:
    await shore.publish("t7")

    ends = await asyncio.gather(
        *(shore.publish(f"t{number}") for number in range(2 * BATCH_FROM)), return_exceptions=True
    )

    refused = [number for number, end in enumerate(ends) if isinstance(end, BrokerRefused)]
    assert refused == [7]
    assert len(await shore.stored()) == 2 * BATCH_FROM


async def test_two_writers_of_one_subject_in_one_wave_one_wins(shore: Shore) -> None:
    ends = await asyncio.gather(
        *(shore.publish(f"t{number // 2}") for number in range(4 * BATCH_FROM)), return_exceptions=True
    )

    assert sum(isinstance(end, int) for end in ends) == 2 * BATCH_FROM
    assert sum(isinstance(end, BrokerRefused) for end in ends) == 2 * BATCH_FROM
    assert len(await shore.stored()) == 2 * BATCH_FROM


async def test_one_that_is_too_large_fails_alone(shore: Shore) -> None:
    waves, most = shore.waves, shore.publisher.connection.nc.max_payload
    many = [asyncio.ensure_future(shore.publish(f"t{number}")) for number in range(2 * BATCH_FROM)]

    with pytest.raises(BrokerRefused):
        await waves.publish("evt.task.huge", bytes(most + 1), {EXPECTED: "0"})

    assert len(set(await asyncio.gather(*many))) == 2 * BATCH_FROM


async def test_who_no_longer_waits_leaves_no_trace(shore: Shore) -> None:
    for _ in range(20):
        many = [shore.publish(f"t{number}") for number in range(4 * BATCH_FROM)]
        await asyncio.sleep(0)
        for each in many[::3]:
            each.cancel()
        await asyncio.gather(*many, return_exceptions=True)

    assert shore.waves._singles == 0
    assert not shore.waves._waiting
    assert await shore.publish("last") > 0


async def test_who_is_broken_off_in_the_moment_of_the_outcome_is_broken_off(shore: Shore) -> None:
    publishes = [shore.publish(f"t{number}") for number in range(40)]
    await asyncio.sleep(0)
    shore.waves._waiting[-1].turn.set_exception(Unavailable("nobody knows"))
    publishes[-1].cancel()
    await asyncio.wait(publishes)

    assert publishes[-1].cancelled()
    assert len(await shore.stored()) == 39


async def test_with_few_in_flight_nothing_waits_for_company(shore: Shore) -> None:
    for number in range(20):
        await shore.publish(f"t{number}")

    assert shore.waves._batch_s == BATCH_S, "a batch was measured, though never more than one waited"


async def test_a_known_message_id_in_a_batch_is_told_its_first_sequence(shore: Shore) -> None:
    def publish(number: int) -> "asyncio.Future[int]":
        return asyncio.ensure_future(
            shore.waves.publish(f"evt.task.t{number}", b"x", {}, msg_id=f"m{number}")
        )

    first = await publish(3)
    sequences = await asyncio.gather(*(publish(number) for number in range(2 * BATCH_FROM)))

    assert sequences[3] == first
    assert len(set(sequences)) == 2 * BATCH_FROM


async def test_what_was_answered_is_there_after_a_crash(shore: Shore) -> None:
    answered: list[str] = []

    async def write(writer: int) -> None:
        for number in range(40):
            with suppress(Unavailable):
                await shore.publish(f"t{writer}-{number}")
                answered.append(f"t{writer}-{number}")
            if writer == 0 and number == 20:
                shore.broker.kill()
                shore.broker.restart()

    await asyncio.gather(*(write(writer) for writer in range(64)))

    stored = await shore.stored()
    assert len(stored) == len(set(stored))
    assert set(answered) <= set(stored)
    assert len(answered) > 64
