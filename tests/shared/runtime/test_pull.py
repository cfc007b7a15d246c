"""The continuous pull: nothing stranded, nothing stuck, not more than was asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

import msgspec
import pytest

from shared.contracts.naming import (
    command_consumer,
    command_stream,
    command_subject,
    partition_of,
    stored_command_filter,
)
from shared.contracts.words import ACK_WAIT, PARTITIONS
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection, connect
from shared.runtime.feed import Feed, Trouble, place_of
from shared.runtime.publish import Publisher
from shared.runtime.pull import Delivery, PullConsumer
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

SERVICE = "orchestrator"
STREAM = command_stream(SERVICE)
BLUE = command_consumer(SERVICE, "blue")
EVERY_PARTITION = [stored_command_filter(SERVICE, partition) for partition in range(PARTITIONS)]
SOON_S = 15.0


class Bench:
    """A work queue, who fills it, and who may shape its consumers."""

    def __init__(
        self, broker: LocalBroker, ops: Connection, worker: Connection, publisher: Publisher
    ) -> None:
        self.broker = broker
        self.ops = ops
        self.worker = worker
        self.publisher = publisher

    def pull(self, consumer: str = BLUE, **options: object) -> PullConsumer:
        return PullConsumer(self.worker, STREAM, consumer, **options)  # type: ignore[arg-type]

    async def put(self, count: int, first: int = 0) -> None:
        await asyncio.gather(
            *(
                self.publisher.publish(
                    command_subject(SERVICE, "gateway", f"t{number}"),
                    str(number).encode(),
                    msg_id=f"m{number}",
                )
                for number in range(first, first + count)
            )
        )

    async def shape(self, consumer: str, **changes: object) -> None:
        """Create a consumer, or change it."""
        config = {"durable_name": consumer, "name": consumer, "ack_policy": "explicit"}
        config |= {"ack_wait": int(ACK_WAIT.total_seconds() * 1e9), "max_ack_pending": 4096} | changes
        request = {"stream_name": STREAM, "config": config}
        await self.ops.api(f"CONSUMER.CREATE.{STREAM}.{consumer}", encode(request))

    async def delete(self, consumer: str) -> None:
        await self.ops.api(f"CONSUMER.DELETE.{STREAM}.{consumer}")


@pytest.fixture
async def bench(broker: LocalBroker) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        ops, worker, gateway = [
            await connect(broker.settings(sender)) for sender in ("ops", "svc-orchestrator", "gateway")
        ]
        for connection in (ops, worker, gateway):
            stack.push_async_callback(connection.close, drain=False)
        await ensure(ops, services=("gateway", SERVICE))
        publisher = Publisher(gateway)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        yield Bench(broker, ops, worker, publisher)


async def take(pull: PullConsumer, count: int, *, ack: bool = True) -> list[Delivery]:
    """Deliveries, until so many different messages have come."""
    taken: list[Delivery] = []
    async with asyncio.timeout(SOON_S), aclosing(pull.batches()) as batches:
        async for batch in batches:
            taken += batch
            if ack:
                for delivery in batch:
                    await delivery.ack()
            if len({delivery.sequence for delivery in taken}) >= count:
                return taken
    raise AssertionError("it ended")


def numbers(deliveries: list[Delivery]) -> set[int]:
    return {int(delivery.data) for delivery in deliveries}


async def until(true: Callable[[], bool], within_s: float = SOON_S) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


async def test_everything_comes_once(bench: Bench) -> None:
    await bench.put(1_000)

    taken = await take(bench.pull(), 1_000)

    assert len(taken) == 1_000
    assert numbers(taken) == set(range(1_000))
    assert {delivery.delivered for delivery in taken} == {1}


async def test_what_comes_while_listening_comes_at_once(bench: Bench) -> None:
    listening = asyncio.ensure_future(take(bench.pull(), 20))
    for number in range(20):
        await bench.put(1, first=number)

    assert numbers(await listening) == set(range(20))


async def test_a_delivery_knows_its_sequence_and_what_it_carries(bench: Bench) -> None:
    await bench.put(1)

    (delivery,) = await take(bench.pull(), 1)

    assert delivery.sequence == 1
    assert delivery.subject.split(".")[3:] == ["gateway", "t0"]
    assert delivery.headers["Nats-Msg-Id"] == "m0"


async def test_no_more_comes_than_is_wanted(bench: Bench) -> None:
    await bench.put(10)
    pull = bench.pull(batch=3)
    taken: list[Delivery] = []

    async def work() -> None:
        async for batch in pull.batches():
            taken.extend(batch)
            pull.want = 3 - len(taken)

    working = asyncio.ensure_future(work())
    await until(lambda: len(taken) >= 3)
    await bench.worker.nc.flush()
    assert len(taken) == 3

    for delivery in taken:
        await delivery.ack_confirmed()
    taken.clear()
    pull.want = 3
    await until(lambda: len(taken) >= 3)

    assert len(taken) == 3
    await pull.stop()
    await working


async def test_what_is_given_back_comes_again_later(bench: Bench) -> None:
    await bench.put(1)
    pull = bench.pull()
    (first,) = await take(pull, 1, ack=False)
    await first.nak(0.2)

    (second,) = await take(bench.pull(), 1)

    assert (second.sequence, second.delivered) == (first.sequence, 2)


async def test_what_is_terminated_never_comes_again(bench: Bench) -> None:
    await bench.put(1)
    (first,) = await take(bench.pull(), 1, ack=False)
    await first.term("not\nreadable")
    await bench.put(1, first=1)

    assert numbers(await take(bench.pull(), 1)) == {1}


async def test_progress_keeps_a_delivery_ours(bench: Bench) -> None:
    await bench.put(1)
    (held,) = await take(bench.pull(), 1, ack=False)
    other = asyncio.ensure_future(take(bench.pull(), 1))

    busy_until = monotonic() + 1.5 * ACK_WAIT.total_seconds()
    while monotonic() < busy_until:
        await held.progress()
        await asyncio.wait([other], timeout=0.5)
    assert not other.done()
    await held.ack_confirmed()

    await bench.put(1, first=1)
    assert numbers(await other) == {1}


async def test_what_lies_untaken_stays_ours(bench: Bench) -> None:
    await bench.put(1)
    pull = bench.pull(batch=2)
    batches = pull.batches()
    (first,) = await anext(batches)
    feed = pull._feed
    assert feed is not None
    await bench.put(1, first=1)  # comes while we are busy with the first, for longer than the ack wait
    await until(lambda: len(feed.arrived) == 1)
    other = asyncio.ensure_future(take(bench.pull(), 1))
    busy_until = monotonic() + 1.5 * ACK_WAIT.total_seconds()
    while monotonic() < busy_until:
        await first.progress()
        await asyncio.wait([other], timeout=0.25)
    assert not other.done()

    rest = await anext(batches)

    assert [delivery.delivered for delivery in rest] == [1]
    other.cancel()
    await batches.aclose()


async def test_who_stops_gives_back_what_it_did_not_take(bench: Bench) -> None:
    await bench.put(10)
    pull = bench.pull(batch=10)
    batches = pull.batches()
    taken = await anext(batches)
    assert pull._feed is not None
    feed = pull._feed
    await until(lambda: len(feed.arrived) + len(taken) == 10)
    for delivery in taken:
        await delivery.ack()
    await pull.stop()
    await batches.aclose()
    left = 10 - len(taken)

    if left:
        async with asyncio.timeout(ACK_WAIT.total_seconds() / 2):
            again = await take(bench.pull(), left)
        assert len(again) == left


async def test_a_full_hand_of_a_dead_holder_is_free_after_the_ack_wait(bench: Bench) -> None:
    await bench.delete(BLUE)
    await bench.shape(BLUE, max_ack_pending=20, filter_subjects=EVERY_PARTITION)
    await bench.put(40)
    held = await take(bench.pull(), 20, ack=False)
    began = monotonic()

    taken = await take(bench.pull(), 40)

    waited = monotonic() - began
    assert numbers(held) < numbers(taken) == set(range(40))
    assert waited < 3 * ACK_WAIT.total_seconds()
    assert max(delivery.delivered for delivery in taken) == 2


async def test_a_grown_filter_strands_what_is_older_until_the_consumer_is_reset(bench: Bench) -> None:
    await bench.delete(BLUE)
    await bench.shape(BLUE, filter_subjects=EVERY_PARTITION[::2])
    await bench.put(100)
    even = {number for number in range(100) if partition_of(f"t{number}") % 2 == 0}
    assert numbers(await take(bench.pull(), len(even))) == even
    await bench.shape(BLUE, filter_subjects=EVERY_PARTITION)
    stranded = msgspec.json.decode(await bench.ops.api(f"CONSUMER.INFO.{STREAM}.{BLUE}"))
    assert stranded["num_pending"] < 100 - len(even), "if it reaches back now, the reset may go"

    await bench.ops.api(f"CONSUMER.RESET.{STREAM}.{BLUE}", b'{"seq": 1}')
    odd = await take(bench.pull(), 100 - len(even))

    assert numbers(odd) == set(range(100)) - even


async def test_it_goes_on_after_the_broker_was_killed(bench: Bench) -> None:
    await bench.put(100)
    pull = bench.pull(batch=20)
    taken: set[int] = set()
    async with asyncio.timeout(2 * SOON_S), aclosing(pull.batches()) as batches:
        async for batch in batches:
            for delivery in batch:
                await delivery.ack()
            before = len(taken)
            taken |= numbers(batch)
            if before < 40 <= len(taken):
                bench.broker.kill()
                bench.broker.restart()
            if len(taken) == 100:
                break

    assert taken == set(range(100))


async def test_missing_heartbeats_begin_a_new_request(bench: Bench) -> None:
    pull = bench.pull(heartbeat_s=0.5)
    listening = asyncio.ensure_future(take(pull, 1))
    await until(lambda: pull._feed is not None and pull._feed.credit > 0)
    deaf = pull._feed
    assert deaf is not None
    assert deaf._subscription is not None
    await deaf._subscription.unsubscribe()

    await until(lambda: pull._feed is not deaf)
    await bench.put(1)

    assert numbers(await listening) == {0}


async def test_a_consumer_that_is_deleted_is_missed_and_used_again_when_it_is_back(bench: Bench) -> None:
    missed = asyncio.Event()
    pull = bench.pull(on_gone=missed.set)
    listening = asyncio.ensure_future(take(pull, 1))
    await until(lambda: pull._feed is not None and pull._feed.credit > 0)

    await bench.delete(BLUE)
    async with asyncio.timeout(SOON_S):
        await missed.wait()
    assert pull.gone
    await bench.shape(BLUE, filter_subjects=EVERY_PARTITION)
    await bench.put(1)

    assert numbers(await listening) == {0}


async def test_a_confirmed_ack_is_known_to_the_broker(bench: Bench) -> None:
    await bench.put(1)
    (delivery,) = await take(bench.pull(), 1, ack=False)

    await delivery.ack_confirmed()

    state = msgspec.json.decode(await bench.ops.api(f"STREAM.INFO.{STREAM}"))["state"]
    assert state["messages"] == 0


async def test_an_ack_that_cannot_be_confirmed_says_so(bench: Bench) -> None:
    await bench.put(1)
    (delivery,) = await take(bench.pull(), 1, ack=False)
    bench.broker.kill()

    with pytest.raises(Unavailable):
        await delivery.ack_confirmed()


@pytest.mark.parametrize("drain", [True, False])
async def test_a_pull_outlives_its_connection_without_harm(bench: Bench, *, drain: bool) -> None:
    pull = bench.pull(heartbeat_s=0.5)
    listening = asyncio.ensure_future(take(pull, 1))
    await until(lambda: pull._feed is not None and pull._feed.credit > 0)

    await bench.worker.close(drain=drain)

    first = pull._feed
    await until(lambda: pull._feed is not first)  # a loop that spins would never let us look
    listening.cancel()
    done, _ = await asyncio.wait([listening], timeout=SOON_S)
    assert done


@pytest.mark.parametrize(
    "subject",
    ["$JS.ACK.S.c.2.17.5.1795235239333325426.9", "$JS.ACK.hive.A1B2.S.c.2.17.5.1795235239333325426.9.x1"],
)
def test_the_place_of_a_delivery_is_read_from_both_forms_of_its_ack_subject(subject: str) -> None:
    assert place_of(subject) == (2, 17, 5)


async def test_a_feed_in_trouble_asks_for_nothing(bench: Bench) -> None:
    feed = Feed(bench.worker, STREAM, BLUE, expires_s=5, heartbeat_s=1)
    await feed.open()
    feed.stop(Trouble.BROKEN)

    await feed.ask(10)

    assert feed.credit == 0
    await feed.close()
