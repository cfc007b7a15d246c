"""The suite that defines the seam to the log: memory and JetStream pass the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import count

import msgspec
import pytest

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable, VersionConflict
from shared.kernel.messages import Commit
from shared.runtime.connection import connect
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.memory import MemoryStore
from shared.runtime.publish import Publisher
from shared.runtime.store import EventStore, Stored
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker
from tests.support.notes import NOON, NoteWritten

_ids = count(1)


def commit(text: str) -> Commit:
    facts = [msgspec.Raw(encode(NoteWritten(text=text)))]
    return Commit(id=f"i{next(_ids)}", at=NOON, actor="a", cause=f"c-{text}", chain="h", facts=facts)


def text_of(stored: Stored) -> str:
    return stored.commit.cause.removeprefix("c-")


@asynccontextmanager
async def on_jetstream(
    broker: LocalBroker, replicas: int = 1, kind: type[JetStreamStore] = JetStreamStore
) -> AsyncIterator[EventStore]:
    ops = await connect(broker.settings("ops"))
    await ensure(ops, services=("gateway", "orchestrator"))
    await ops.close()
    connection = await connect(broker.settings("svc-orchestrator"))
    publisher = Publisher(connection)
    await publisher.start()
    try:
        yield kind(connection, publisher, replicas=replicas)
    finally:
        await publisher.stop()
        await connection.close()


NATS = pytest.mark.nats


@pytest.fixture(
    params=["memory", pytest.param("jetstream", marks=NATS), pytest.param("the leader's word", marks=NATS)]
)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    replicas = 3 if request.param == "the leader's word" else 1
    async with on_jetstream(request.getfixturevalue("broker"), replicas) as store:
        yield store


async def read_until(store: EventStore, aggregates: tuple[str, ...], after: int, last: int) -> list[Stored]:
    seen: list[Stored] = []
    async with asyncio.timeout(20), aclosing(store.follow(aggregates, after)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            seen += batch
            if seen[-1].sequence >= last:
                break
    return seen


async def test_nothing_is_there_at_first(store: EventStore) -> None:
    assert await store.read("task", "t") == []
    assert await store.version("task", "t") == 0
    assert await store.last_sequence() == 0


async def test_what_was_appended_is_read_back_in_order(store: EventStore) -> None:
    version = 0
    for number in range(300):
        version = await store.append("task", "t", commit(str(number)), expected=version)
        if number % 100 == 0:
            await store.append("task", f"other-{number}", commit("x"), expected=0)

    stored = await store.read("task", "t")

    assert list(map(str, range(300))) == [text_of(each) for each in stored]
    assert list({(each.aggregate, each.aggregate_id) for each in stored}) == [("task", "t")]
    assert version == stored[-1].sequence == await store.version("task", "t")
    assert stored[280:] == await store.read("task", "t", stored[279].sequence)
    assert [] == await store.read("task", "t", version)


async def test_two_writers_with_the_same_version_one_wins(store: EventStore) -> None:
    await store.append("task", "t", commit("a"), expected=0)

    with pytest.raises(VersionConflict):
        await store.append("task", "t", commit("b"), expected=0)

    assert [text_of(each) for each in await store.read("task", "t")] == ["a"]


async def test_of_many_writers_at_once_one_wins_each_round(store: EventStore) -> None:
    ends = await asyncio.gather(
        *(store.append("task", f"t{number % 50}", commit(str(number)), expected=0) for number in range(200)),
        return_exceptions=True,
    )

    assert sum(isinstance(end, int) for end in ends) == 50
    assert sum(isinstance(end, VersionConflict) for end in ends) == 150
    assert await store.last_sequence() == 50


async def test_a_name_is_one_aggregate_of_its_kind(store: EventStore) -> None:
    await store.append("task", "same", commit("task"), expected=0)
    await store.append("bot", "same", commit("bot"), expected=0)

    assert [text_of(each) for each in await store.read("task", "same")] == ["task"]
    assert [text_of(each) for each in await store.read("bot", "same")] == ["bot"]


@pytest.mark.parametrize("after", [0, 1, 7, 20])
async def test_a_follower_sees_all_after_a_sequence_once_and_in_order(store: EventStore, after: int) -> None:
    for number in range(20):
        await store.append("task", f"t{number}", commit(str(number)), expected=0)
    follower = asyncio.ensure_future(read_until(store, ("task",), after, 40))
    for number in range(20, 40):
        await store.append("task", f"t{number}", commit(str(number)), expected=0)

    assert list(range(after + 1, 41)) == [each.sequence for each in await follower]


@pytest.mark.parametrize("after", [0, 333])
async def test_who_follows_several_kinds_sees_them_in_one_order_while_they_grow(
    store: EventStore, after: int
) -> None:
    kinds = ("task", "pool", "task", "task", "bot", "task")

    async def grow(first: int, last: int) -> None:
        for number in range(first, last):
            await store.append(kinds[number % 6], f"n{number}", commit(str(number)), expected=0)

    await grow(0, 700)
    growing = asyncio.ensure_future(grow(700, 1_201))
    seen = await read_until(store, ("task", "bot"), after, 1_200)
    await growing

    wanted = [number + 1 for number in range(after, 1_200) if kinds[number % 6] != "pool"]
    assert [each.sequence for each in seen if each.sequence <= 1_200] == wanted


class Busy(JetStreamStore):
    """Somebody writes the first bot and another task just after it was asked where the tasks end."""

    busy = False

    async def version(self, aggregate: str, aggregate_id: str) -> int:
        version = await super().version(aggregate, aggregate_id)
        if self.busy and (aggregate, aggregate_id) == ("task", "*"):
            self.busy = False
            await self.append("bot", "first", commit("bot"), expected=0)
            await self.append("task", "late", commit("late"), expected=0)
        return version


@NATS
async def test_what_is_written_while_the_end_is_looked_for_is_not_passed_over(broker: LocalBroker) -> None:
    async with on_jetstream(broker, kind=Busy) as store:
        assert isinstance(store, Busy)
        for number in range(10):
            await store.append("task", f"t{number}", commit(str(number)), expected=0)
        store.busy = True
        seen = await read_until(store, ("bot", "task"), 0, 12)
        assert [each.sequence for each in seen] == list(range(1, 13))


async def test_a_follower_hears_only_the_kinds_it_asked_for(store: EventStore) -> None:
    await store.append("task", "t", commit("a"), expected=0)
    await store.append("bot", "b", commit("b"), expected=0)
    last = await store.append("pool", "p", commit("c"), expected=0)

    assert [each.aggregate for each in await read_until(store, ("task", "pool"), 0, last)] == ["task", "pool"]


async def test_the_last_version_of_a_kind_can_be_asked_for(store: EventStore) -> None:
    await store.append("task", "t", commit("a"), expected=0)
    last = await store.append("task", "u", commit("b"), expected=0)
    await store.append("bot", "b", commit("c"), expected=0)

    assert last == await store.version("task", "*")


async def test_a_record_needs_no_expectation(store: EventStore) -> None:
    first = await store.record("orchestrator", commit("a"))
    second = await store.record("orchestrator", commit("b"))

    assert first < second == await store.last_sequence()


async def test_a_log_keeps_its_identity(store: EventStore) -> None:
    before = await store.identity()
    await store.append("task", "t", commit("a"), expected=0)

    assert before == await store.identity()


@pytest.mark.nats
async def test_a_follower_goes_on_when_the_broker_was_killed(broker: LocalBroker) -> None:
    async with on_jetstream(broker) as store:
        for number in range(10):
            await store.append("task", f"t{number}", commit(str(number)), expected=0)
        follower = asyncio.ensure_future(read_until(store, ("task",), 0, 20))
        broker.kill()
        broker.restart()
        async with asyncio.timeout(20):
            for number in range(10, 20):
                await _append_at_last(store, f"t{number}")

        assert list(range(1, 21)) == [each.sequence for each in await follower]


@pytest.mark.nats
async def test_a_log_that_was_deleted_and_made_again_is_another(broker: LocalBroker) -> None:
    async with on_jetstream(broker) as store:
        before = await store.identity()
        ops = await connect(broker.settings("ops"))
        await ops.api("STREAM.DELETE.EVENTS")
        await ensure(ops, services=("gateway", "orchestrator"))
        await ops.close()

        assert before != await store.identity()


async def test_after_an_unknown_end_the_log_says_what_became_of_it(store: EventStore) -> None:
    mine = commit("mine")
    first = asyncio.ensure_future(store.append("task", "t", mine, expected=0))
    await asyncio.sleep(0)
    first.cancel()  # who waited is gone, the commit perhaps not
    with suppress(asyncio.CancelledError):
        await first

    with suppress(VersionConflict):
        await store.append("task", "t", mine, expected=0)

    assert [each.commit.id for each in await store.read("task", "t")] == [mine.id]


@pytest.mark.nats
async def test_what_was_answered_is_there_after_crashes_and_nothing_twice(broker: LocalBroker) -> None:
    answered: dict[str, int] = {}

    async def write(store: EventStore, writer: int) -> None:
        for number in range(30):
            task = f"t{writer}-{number}"
            with suppress(Unavailable):
                answered[task] = await store.append("task", task, commit(task), expected=0)
            if writer == 0 and number in {10, 20}:
                broker.kill()
                broker.restart()

    async with on_jetstream(broker) as store:
        await asyncio.gather(*(write(store, writer) for writer in range(40)))
        last = await _once_back(store)
        stored = await read_until(store, ("task",), 0, last)

    where = {each.aggregate_id: each.sequence for each in stored}
    assert len(where) == len(stored)
    assert answered.items() <= where.items()
    assert len(answered) > 40


async def _append_at_last(store: EventStore, task: str) -> None:
    while not await _is_there(store, task):
        try:
            await store.append("task", task, commit(task), expected=0)
        except (Unavailable, VersionConflict):
            await asyncio.sleep(0.05)


async def _is_there(store: EventStore, task: str) -> bool:
    try:
        return await store.version("task", task) > 0
    except Unavailable:
        return False


async def _once_back(store: EventStore) -> int:
    async with asyncio.timeout(20):
        while True:
            with suppress(Unavailable):
                return await store.last_sequence()
            await asyncio.sleep(0.05)
