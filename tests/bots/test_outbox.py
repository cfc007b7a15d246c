"""What a bot sends arrives, once, and the commands of a lane in their order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.outbox import PARCEL_BYTES_MAX, Line, Outbox, Waiting
from bots.post import Letter
from shared.contracts.naming import command_stream
from shared.kernel.errors import Rejected, Unavailable
from shared.kernel.messages import PARCEL_MAX, Committed, Outcome, Refused
from shared.runtime.directget import every
from tests.support.nats_server import LocalBroker
from tests.support.notes import Jot
from tests.support.queue_bench import SERVICE, Bench, until

LANES = st.sampled_from([None, "a", "b", "c"])
WAITING = st.tuples(LANES, st.booleans(), st.integers(1, PARCEL_BYTES_MAX // 3))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(WAITING, max_size=100)),
        st.tuples(st.just("take"), st.booleans()),
        st.tuples(st.just("end"), st.lists(st.booleans(), max_size=PARCEL_MAX)),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_happens_a_lane_stays_in_order_and_nothing_is_left_behind(
    steps: list[tuple[str, object]],
) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, object]]) -> None:
    """Some are added, some leave together, some of those end and the others wait again; then all end."""
    line, out, ended = Line(), list[list[Waiting]](), list[Waiting]()
    added: list[Waiting] = []

    def take(*, asking: bool) -> list[Waiting]:
        taken = line.take(asking=asking)
        assert len(taken) <= PARCEL_MAX
        assert len(taken) <= 1 or sum(len(each.letter.data) for each in taken) <= PARCEL_BYTES_MAX
        assert asking or not any(each.asks for each in taken)
        lanes = {each.lane for each in taken} - {None}
        assert not lanes & {each.lane for others in out for each in others}, "two of a lane are out"
        for lane in lanes:
            ours = [each for each in taken if each.lane == lane]
            assert ours == [each for each in added if each.lane == lane and each not in ended][: len(ours)]
        if taken:
            out.append(taken)
        return taken

    def end(taken: list[Waiting], ends: list[bool]) -> None:
        for each, over in zip(taken, [*ends, *[True] * PARCEL_MAX], strict=False):
            if over:
                each.end(None)
                ended.append(each)
        line.end(taken)

    for step in steps:
        match step:
            case ("add", list(news)):
                for lane, asks, size in news:
                    waiting = Waiting(Letter("", b"x" * size, str(len(added))), lane, asks=asks)
                    added.append(waiting)
                    line.add(waiting)
            case ("take", bool(asking)):
                take(asking=asking)
            case ("end", list(ends)) if out:
                # Those of a lane end in order: what an owner answers about a parcel comes in one piece.
                end(out.pop(0), sorted(ends, reverse=True))
            case _:
                pass
    while out or take(asking=True):
        end(out.pop(0), [])
    assert len(ended) == len(added)
    assert set(map(id, ended)) == set(map(id, added))


@pytest.fixture
async def bench(broker: LocalBroker) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        bench = Bench(broker, stack)
        await bench.open()
        yield bench


@pytest.fixture
async def outbox(bench: Bench) -> AsyncIterator[Outbox]:
    outbox = Outbox(await bench.connect("bot-eve"))
    yield outbox
    outbox.close()


async def say(
    outbox: Outbox, number: int, text: str = "a", *, note: str = "", lane: str | None = None
) -> Outcome:
    command = Jot(note_id=note or f"n{number}", bot_id="eve", text=text)
    return await outbox.send(command, command_id=f"c{number}", chain="chain", lane=lane)


async def texts(bench: Bench) -> list[str]:
    stored = await every(bench.gateway, "EVENTS", "evt.pool.*")
    return [fact.split('"')[0] for each in stored for fact in each.data.decode().split('"text":"')[1:]]


async def test_a_single_command_goes_at_once_and_its_outcome_comes_back(bench: Bench, outbox: Outbox) -> None:
    async with bench.working(await bench.handler()):
        assert isinstance(await say(outbox, 1), Committed)
        assert isinstance(await say(outbox, 2, "gone"), Refused)


async def test_what_waits_together_goes_as_parcels(bench: Bench, outbox: Outbox) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(say(outbox, number)) for number in range(200)]
        await until(lambda: _waits(bench, 4))
        async with bench.working(await bench.handler()):
            await asyncio.wait(waiting)
            await until(bench.nothing_waits)

    outcomes = [each.result() for each in waiting]
    assert all(isinstance(each, Committed) for each in outcomes)
    assert len(await texts(bench)) == 200
    async with bench.broker.client("ops") as client:
        state = (await client.jetstream().stream_info(command_stream(SERVICE))).state
    assert state.last_seq == 4, "two hundred commands, at most 64 in a message"


async def test_what_need_only_be_stored_is_stored_though_nobody_decides(bench: Bench, outbox: Outbox) -> None:
    unanswered = [asyncio.ensure_future(say(outbox, number)) for number in range(300)]
    async with asyncio.timeout(10):
        await outbox.store(Jot(note_id="stored", bot_id="eve", text="a"), command_id="stored", chain="chain")
    assert not any(each.done() for each in unanswered)

    async with bench.working(await bench.handler()):
        async with asyncio.timeout(30):
            await asyncio.gather(*unanswered)
        assert await bench.store.version("pool", "stored") > 0


async def test_a_lane_keeps_its_order_through_a_death_of_broker_and_owner(
    bench: Bench, outbox: Outbox
) -> None:
    async def speak(lane: str) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                name = f"{lane}{number}"
                jot = Jot(note_id=name, bot_id="eve", text=name)
                group.create_task(outbox.send(jot, command_id=name, chain="chain", lane=lane))

    async with asyncio.TaskGroup() as group:
        for lane in "abc":
            group.create_task(speak(lane))
        async with bench.working(await bench.handler()):
            await until(lambda: _stored(bench, 30))
        async with bench.working(await bench.handler()):
            await until(lambda: _stored(bench, 100))
            bench.broker.kill()
            bench.broker.restart()
            await until(lambda: _stored(bench, 300), within_s=40)

    said = await texts(bench)
    assert len(said) == 300
    for lane in "abc":
        assert [each for each in said if each[0] == lane] == [f"{lane}{number}" for number in range(100)]


async def test_who_sends_more_than_may_wait_waits_for_room(bench: Bench) -> None:
    outbox = Outbox(await bench.connect("bot-eve"), waiting_max=5)
    sending = [asyncio.ensure_future(say(outbox, number)) for number in range(20)]
    await until(lambda: _waits(bench, 2))
    async with bench.working(await bench.handler()), asyncio.timeout(30):
        await asyncio.gather(*sending)
    outbox.close()

    assert len(await texts(bench)) == 20


async def test_what_fits_no_message_is_refused_at_once(outbox: Outbox) -> None:
    with pytest.raises(Rejected, match="command_too_large"):
        await say(outbox, 1, "a" * 3_000_000)


async def test_who_waits_is_told_when_the_outbox_closes(bench: Bench, outbox: Outbox) -> None:
    sending = [asyncio.ensure_future(say(outbox, number)) for number in range(100)]
    await until(lambda: _waits(bench, 1))
    outbox.close()
    async with asyncio.timeout(10):
        told = await asyncio.gather(*sending, return_exceptions=True)

    assert all(isinstance(each, Unavailable) for each in told)


async def _waits(bench: Bench, count: int) -> bool:
    return await bench.waiting() >= count


async def _stored(bench: Bench, count: int) -> bool:
    with suppress(Unavailable):  # the broker is just coming back
        return len(await texts(bench)) >= count
    return False
