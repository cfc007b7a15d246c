"""A command queue on a real broker: what is accepted is decided once, answered truly, and never lost."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, suppress

import msgspec
import pytest

from shared.contracts.dead import ListDead, ReplayDead
from shared.contracts.naming import command_consumer, command_stream, dead_subject
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import AlreadySo, Committed, Envelope, Failed, Refused
from shared.runtime.commands import QueueFull
from shared.runtime.directget import every, peek
from shared.runtime.ids import new_id
from shared.runtime.intake import Intake, Route
from shared.runtime.pull import Delivery, PullConsumer
from shared.runtime.refusals import Refusals
from shared.runtime.replay import Replay
from shared.runtime.suspects import Suspects
from tests.support.nats_server import LocalBroker
from tests.support.notes import (
    CAUSE,
    NOON,
    NOTE_CODEC,
    Break,
    NoteRequest,
    RubOut,
    WriteNote,
)
from tests.support.queue_bench import SERVICE, Bench, until


@pytest.fixture
async def bench(broker: LocalBroker) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        bench = Bench(broker, stack)
        await bench.open()
        yield bench


async def test_a_command_is_decided_answered_and_gone_from_the_queue(bench: Bench) -> None:
    async with bench.working(await bench.handler()):
        first = await bench.send(WriteNote(note_id="n", text="a"), actor="key:1")
        again = await bench.send(WriteNote(note_id="n", text="a"), actor="key:1")
        refused = await bench.send(RubOut(note_id="other"), actor="key:1")

    assert isinstance(first, Committed)
    assert isinstance(again, AlreadySo)
    assert isinstance(refused, Refused)
    assert refused.code == "no_note"
    assert await bench.waiting() == 0
    records = await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")
    assert len(records) == 1
    assert b"no_note" in records[0].data


class Stuttering(PullConsumer):
    """Delivers each message twice in one batch, as after a stall longer than the ack wait."""

    async def batches(self) -> AsyncGenerator[list[Delivery], None]:
        async for deliveries in super().batches():
            yield [*deliveries, *deliveries]


async def test_what_comes_twice_in_one_batch_is_worked_on_once(bench: Bench) -> None:
    async with bench.working(await bench.handler(), Stuttering):
        assert isinstance(await bench.send(RubOut(note_id="other"), actor="key:1"), Refused)
        assert isinstance(await bench.send(WriteNote(note_id="n", text="a"), actor="key:1"), Committed)

    assert 1 == len(await every(bench.gateway, "EVENTS", "evt.audit.orchestrator"))


async def test_many_commands_at_once_are_all_decided(bench: Bench) -> None:
    async with bench.working(await bench.handler()):
        outcomes = await asyncio.gather(
            *(
                bench.send(WriteNote(note_id=f"n{n % 50}", text=str(n)), actor="k", wait_s=20)
                for n in range(500)
            )
        )

    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert len({outcome.sequence for outcome in outcomes if isinstance(outcome, Committed)}) == 500


async def test_a_command_waits_for_its_owner(bench: Bench) -> None:
    assert await bench.send(WriteNote(note_id="n", text="a"), actor="k", wait_s=0.05) is None
    assert await bench.waiting() == 1

    async with bench.working(await bench.handler()):
        await until(lambda: bench.store.version("pool", "n"))


async def test_what_cannot_be_read_goes_to_the_dead_letters_at_once(bench: Bench) -> None:
    handler = await bench.handler()
    publisher = await bench.publisher(bench.gateway)
    await publisher.publish("cmd.orchestrator.gateway.n", b"\xff not a command")

    async with bench.working(handler):
        await until(bench.letters)

    [letter] = await bench.letters()
    assert letter.reason.startswith("undecodable")
    assert await bench.waiting() == 0


@pytest.mark.parametrize("wildcard", ["*", ">"])
async def test_what_is_sent_to_a_wildcard_is_refused_and_does_not_stay_in_the_queue(
    bench: Bench, wildcard: str
) -> None:
    command = msgspec.Raw(encode(WriteNote(note_id=wildcard, text="a")))
    sent = encode(Envelope(id="c1", chain="c1", actor="key:1", command=command))
    await bench.gateway.request(f"cmd.orchestrator.gateway.{wildcard}", sent, timeout=5)
    assert await bench.waiting() == 1

    async with bench.working(await bench.handler()):
        await until(bench.nothing_waits)

    assert not await every(bench.gateway, "EVENTS", "evt.pool.>")
    assert not await bench.letters()


async def test_what_fails_five_times_goes_to_the_dead_letters_and_the_rest_goes_on(bench: Bench) -> None:
    async with bench.working(await bench.handler()):
        broken = asyncio.ensure_future(bench.send(Break(note_id="b"), actor="k", wait_s=40))
        fine = [await bench.send(WriteNote(note_id=f"n{n}", text="a"), actor="k") for n in range(5)]
        outcome = await broken

    assert all(isinstance(each, Committed) for each in fine)
    assert isinstance(outcome, Failed)
    [letter] = await bench.letters()
    assert (outcome.dead_letter, 5) == (letter.id, letter.attempts)
    assert "ZeroDivisionError" in letter.reason


async def test_a_forged_reply_subject_hears_nothing(bench: Bench) -> None:
    heard: list[bytes] = []
    stranger = await bench.connect("bot-eve")

    async def hear(message: object) -> None:
        heard.append(b"heard")

    inbox = stranger.inbox()
    await stranger.subscribe(inbox, hear)
    publisher = await bench.publisher(bench.gateway)
    envelope = Envelope(
        id="c9", chain="c9", actor="k", command=msgspec.Raw(encode(WriteNote(note_id="n", text="a")))
    )
    async with bench.working(await bench.handler()):
        await publisher.publish("cmd.orchestrator.gateway.n", encode(envelope), headers={"Hive-Reply": inbox})
        await until(lambda: bench.store.version("pool", "n"))
        await stranger.nc.flush()

    assert heard == []


async def test_a_bot_may_not_ask_what_people_may(bench: Bench) -> None:
    stranger = await bench.connect("bot-eve")
    publisher = await bench.publisher(stranger)
    envelope = Envelope(
        id="c9", chain="c9", actor="key:admin", command=msgspec.Raw(encode(WriteNote(note_id="n", text="a")))
    )
    async with bench.working(await bench.handler()):
        await publisher.publish("cmd.orchestrator.bot-eve.n", encode(envelope))
        await until(bench.nothing_waits)

    assert await bench.store.version("pool", "n") == 0
    [record] = await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")
    assert b"bot-eve" in record.data


async def test_a_broker_that_dies_in_the_middle_loses_nothing_and_doubles_nothing(bench: Bench) -> None:
    async def submit(number: int) -> None:
        command, command_id = WriteNote(note_id=f"n{number % 20}", text=str(number)), new_id()
        while True:
            with suppress(Unavailable):
                outcome = await bench.send(command, actor="k", command_id=command_id, wait_s=1.0)
                if outcome is not None:
                    assert isinstance(outcome, Committed | AlreadySo)
                    return
            command_id = new_id()
            await asyncio.sleep(0.05)

    async with bench.working(await bench.handler()), asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(submit(number))
        await until(lambda: _some_are_stored(bench, 30))
        bench.broker.kill()
        bench.broker.restart()

    commits = [each for n in range(20) for each in await bench.store.read("pool", f"n{n}")]
    texts = [fact.text for each in commits for fact in NOTE_CODEC.decode_all(each.commit.facts)]  # type: ignore[union-attr]
    assert sorted(map(str, range(300))) == sorted(texts)


async def _some_are_stored(bench: Bench, count: int) -> bool:
    return await bench.store.last_sequence() >= count


async def test_a_command_that_kills_its_process_ends_in_the_dead_letters(bench: Bench) -> None:
    """Ten deliveries in vain, three marks left behind: that is what a process killed each time leaves."""
    handler = await bench.handler()
    publisher = await bench.publisher(bench.owner)
    suspects = Suspects(SERVICE, bench.owner, publisher)
    await bench.send(WriteNote(note_id="n", text="a"), actor="k", wait_s=0)
    [command] = await every(bench.gateway, command_stream(SERVICE), "cmd.>")
    for marks in range(3):
        assert marks == await suspects.marks(command.sequence)
        await suspects.begin(command.sequence, marks)
    await bench.deliver_in_vain(times=10)

    async with bench.working(handler):
        await until(bench.letters)

    [letter] = await bench.letters()
    assert letter.reason.startswith("kills_its_process")
    assert await peek(bench.gateway, command_stream(SERVICE), "cmd.>") is None


async def test_what_is_too_long_for_a_dead_letter_is_cut_and_the_queue_goes_on(bench: Bench) -> None:
    handler = await bench.handler()
    publisher = await bench.publisher(bench.gateway)
    await publisher.publish("cmd.orchestrator.gateway.n", b"\xff" * (bench.gateway.nc.max_payload - 1_000))

    async with bench.working(handler):
        await until(bench.letters)
        fine = await bench.send(WriteNote(note_id="n", text="a"), actor="k")

    [letter] = await bench.letters()
    assert letter.reason.startswith("undecodable")
    assert "cut" in letter.reason
    assert isinstance(fine, Committed)
    assert await bench.waiting() == 0


async def test_while_the_dead_letters_are_full_what_belongs_there_waits_and_the_rest_goes_on(
    bench: Bench,
) -> None:
    handler = await bench.handler()
    publisher = await bench.publisher(bench.gateway)
    await bench.limit("DEAD", max_bytes=200)
    await publisher.publish("cmd.orchestrator.gateway.n", b"not a command" * 50)

    async with bench.working(handler):
        for number in range(7):
            await bench.send(Break(note_id=f"b{number}"), actor="k", wait_s=0)
        await until(lambda: _delivered(bench, 40), within_s=20)
        fine = await bench.send(WriteNote(note_id="n", text="a"), actor="k")
        assert (await bench.waiting(), await bench.letters()) == (8, [])
        await bench.limit("DEAD", max_bytes=1_000_000)
        await until(bench.nothing_waits, within_s=30)

    assert isinstance(fine, Committed)
    assert len(await bench.letters()) == 8


async def test_while_the_log_is_full_nothing_accepted_is_lost_and_then_it_goes_on(bench: Bench) -> None:
    handler = await bench.handler()
    texts = [str(number) for number in range(20)]
    waiting = [
        asyncio.ensure_future(bench.send(WriteNote(note_id="n", text=text), actor="k", wait_s=60))
        for text in texts
    ]
    await until(lambda: _all_wait(bench, 20))
    await bench.deliver_in_vain(times=10)  # from here on each is worked on alone, under a mark
    for stream in ("EVENTS", "KV_suspects"):
        await bench.limit(stream, max_bytes=10)

    async with bench.working(handler):
        await until(lambda: _delivered(bench, 280), within_s=30)
        with pytest.raises(Unavailable):
            await handler.handle(WriteNote(note_id="other", text="a"), CAUSE)
        assert (await bench.waiting(), await bench.letters()) == (20, [])
        assert not any(each.done() for each in waiting)
        for stream in ("EVENTS", "KV_suspects"):
            await bench.limit(stream, max_bytes=1_000_000)
        outcomes = await asyncio.gather(*waiting)

    assert all(isinstance(each, Committed) for each in outcomes)
    found = [NOTE_CODEC.decode_all(each.commit.facts) for each in await bench.store.read("pool", "n")]
    assert sorted(texts) == sorted(fact.text for facts in found for fact in facts)  # type: ignore[union-attr]
    assert await bench.letters() == []


async def _all_wait(bench: Bench, count: int) -> bool:
    return await bench.waiting() == count


async def _delivered(bench: Bench, times: int) -> bool:
    consumer = f"{command_stream(SERVICE)}.{command_consumer(SERVICE, 'blue')}"
    info = msgspec.json.decode(await bench.owner.api(f"CONSUMER.INFO.{consumer}"))
    return int(info["delivered"]["consumer_seq"]) >= times


async def test_a_mark_that_could_not_be_taken_away_is_no_kill(bench: Bench) -> None:
    suspects = Suspects(SERVICE, bench.owner, await bench.publisher(bench.owner))
    await suspects.begin(7, await suspects.marks(7))
    back = asyncio.Event()

    async def note() -> None:
        back.set()

    bench.owner.on_reconnect(note)
    bench.broker.kill()
    await suspects.end(7)
    bench.broker.restart()
    async with asyncio.timeout(10):
        await back.wait()

    assert await suspects.marks(7) == 0
    assert await Suspects(SERVICE, bench.owner, await bench.publisher(bench.owner)).marks(7) == 1


async def test_while_the_queue_is_full_everybody_is_told_so_and_then_it_goes_on(bench: Bench) -> None:
    assert await bench.send(WriteNote(note_id="first", text="a"), actor="k", wait_s=0) is None
    await bench.limit(command_stream(SERVICE), max_bytes=500)
    refused = await asyncio.gather(
        *(bench.send(WriteNote(note_id=f"n{n}", text="a" * 500), actor="k", wait_s=0) for n in range(100)),
        return_exceptions=True,
    )

    assert all(isinstance(each, QueueFull) for each in refused)
    assert await bench.waiting() == 1
    async with bench.working(await bench.handler()):
        await until(bench.nothing_waits)
        assert await bench.store.version("pool", "first") > 0
        assert isinstance(await bench.send(WriteNote(note_id="n", text="a"), actor="k"), Committed)


async def test_a_dead_letter_that_is_refused_when_decided_again_is_on_record(bench: Bench) -> None:
    handler = await bench.handler()
    command = msgspec.Raw(encode(RubOut(note_id="n")))
    await bench.dead.put(
        "letter",
        subject="cmd.orchestrator.7.gateway.n",
        headers={},
        body=encode(Envelope(id="c9", chain="c9", actor="key:1", command=command)),
        reason="failed",
        attempts=5,
    )
    refusals = Refusals(SERVICE, bench.store, lambda: NOON)

    outcome = await Replay(Intake([Route(NoteRequest, handler)]), bench.dead, refusals).replay(
        ReplayDead(id="letter", actor="key:1")
    )

    assert isinstance(outcome, Refused)
    [record] = await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")
    assert b"no_note" in record.data
    assert await bench.letters() == []


async def test_who_asks_for_the_letters_about_one_thing_reads_no_others(bench: Bench) -> None:
    await bench.handler()
    for letter_id, key in (("one", "n"), ("two", "n"), ("three", "other")):
        subject = f"cmd.orchestrator.7.gateway.{key}"
        await bench.dead.put(letter_id, subject=subject, headers={}, body=b"", reason="failed", attempts=5)
    publisher = await bench.publisher(bench.owner)
    await publisher.publish(dead_subject(SERVICE, "more", "four"), b"who reads this stumbles")

    about = await bench.dead.list(ListDead(key="n"))

    assert (sorted(letter.id for letter in about.items), about.total) == (["one", "two"], 2)
    for nothing in ("unknown", "*", ">", "n.one"):
        assert (await bench.dead.list(ListDead(key=nothing))).items == []
    assert (await bench.dead.get("three")).subject.endswith(".other")
