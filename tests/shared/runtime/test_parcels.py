"""Parcels on a real broker: many commands of a bot in one message, each decided by itself, once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from bots.post import Letter, letter, parcel, store
from shared.contracts.dead import ReplayDead
from shared.contracts.naming import REPLY_HEADER, command_stream
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import (
    PARCEL_MAX,
    AlreadySo,
    Committed,
    Envelope,
    Failed,
    Outcome,
    Refused,
)
from shared.runtime.connection import Connection
from shared.runtime.directget import every
from shared.runtime.handler import Effects
from shared.runtime.ids import new_id
from shared.runtime.intake import Intake, Route
from shared.runtime.refusals import Refusals
from shared.runtime.replay import Replay
from shared.runtime.suspects import Suspects
from tests.support.nats_server import LocalBroker
from tests.support.notes import NOON, Jot, NoteFact, NoteRequest, WriteNote
from tests.support.queue_bench import SERVICE, Bench, until

_outcomes = msgspec.json.Decoder(list[Outcome])


class Bot:
    """A bot that sends parcels and hears their outcomes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.answers: asyncio.Queue[Msg] = asyncio.Queue()
        self.inbox = connection.inbox()

    async def send(self, letters: Sequence[Letter | bytes]) -> None:
        """Store them as one message; raw bytes stand in the place of an envelope."""
        wrapped = [each if isinstance(each, Letter) else Letter("", each, new_id()) for each in letters]
        first = next(each.subject for each in wrapped if each.subject)
        body = b'{"parcel":[' + b",".join(each.data for each in wrapped) + b"]}"
        sent = Letter(first, body, new_id())
        await store(self.connection, sent, **{REPLY_HEADER: self.inbox})

    async def outcomes(self) -> list[Outcome]:
        async with asyncio.timeout(30):
            return _outcomes.decode((await self.answers.get()).data)


def jot(number: int, text: str = "a", *, bot: str = "eve", command_id: str = "") -> Letter:
    command = Jot(note_id=f"n{number}", bot_id=bot, text=text)
    return letter(command, sender="bot-eve", command_id=command_id or f"c{number}", chain="chain")


@pytest.fixture
async def bench(broker: LocalBroker) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        bench = Bench(broker, stack)
        await bench.open()
        yield bench


@pytest.fixture
async def bot(bench: Bench) -> Bot:
    bot = Bot(await bench.connect("bot-eve"))
    await bot.connection.subscribe(bot.inbox, bot.answers.put)
    return bot


async def notes(bench: Bench) -> list[str]:
    """The texts in the log, in its order."""
    stored = await every(bench.gateway, "EVENTS", "evt.pool.*")
    facts = [msgspec.json.decode(each.data)["facts"] for each in stored]
    return [fact["text"] for each in facts for fact in each]


async def test_a_parcels_commands_are_decided_in_their_order_and_answered_together(
    bench: Bench, bot: Bot
) -> None:
    texts = [str(number) for number in range(PARCEL_MAX)]
    async with bench.working(await bench.handler()):
        await bot.send([jot(number, text) for number, text in enumerate(texts)])
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [each.command_id for each in outcomes] == [f"c{number}" for number in range(PARCEL_MAX)]
    assert all(isinstance(each, Committed) for each in outcomes)
    sequences = [each.sequence for each in outcomes if isinstance(each, Committed)]
    assert sequences == sorted(sequences)
    assert await notes(bench) == texts


async def test_a_parcel_on_the_wire_is_what_the_page_about_the_protocol_says() -> None:
    sent = parcel([jot(1), jot(2)])

    assert sent.subject == "cmd.orchestrator.bot-eve.n1"
    document: dict[str, Any] = msgspec.json.decode(sent.data)
    assert [each["id"] for each in document["parcel"]] == ["c1", "c2"]
    assert parcel([jot(1)]) == jot(1)


async def test_what_is_decided_twice_is_made_once(bench: Bench, bot: Bot) -> None:
    async with bench.working(await bench.handler()):
        for _ in range(2):
            await bot.send([jot(number) for number in range(20)])
        first, second = await bot.outcomes(), await bot.outcomes()
        await until(bench.nothing_waits)

    assert first == second
    assert await notes(bench) == ["a"] * 20


async def test_a_kill_between_two_commits_of_a_parcel_loses_nothing_and_doubles_nothing(
    bench: Bench, bot: Bot
) -> None:
    """The first owner is gone when ten of the commits are in the log; the next one gets the whole parcel."""
    some = asyncio.Event()
    seen: list[object] = []

    def committed(commit: object) -> None:
        seen.append(commit)
        if len(seen) == 10:
            some.set()

    first = await bench.handler(Effects[NoteRequest, NoteFact](committed=committed))
    await bot.send([jot(number, str(number)) for number in range(PARCEL_MAX)])
    async with bench.working(first), asyncio.timeout(10):
        await some.wait()
    async with bench.working(await bench.handler()):
        await until(bench.nothing_waits, within_s=30)
        outcomes = await bot.outcomes()

    assert len(seen) < PARCEL_MAX or bot.answers.empty()
    assert sorted(await notes(bench)) == sorted(str(number) for number in range(PARCEL_MAX))
    assert all(isinstance(each, Committed) for each in outcomes)


async def test_a_refused_command_in_the_middle_is_on_record_and_the_others_are_decided(
    bench: Bench, bot: Bot
) -> None:
    async with bench.working(await bench.handler()):
        await bot.send([jot(1), jot(2, "gone"), jot(1, command_id="again"), jot(3)])
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [type(each) for each in outcomes] == [Committed, Refused, AlreadySo, Committed]
    [record] = await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")
    assert b"note_gone" in record.data


async def test_what_cannot_be_read_is_buried_alone_and_can_be_decided_later(bench: Bench, bot: Bot) -> None:
    handler = await bench.handler()
    future = encode(
        Envelope(
            id="c2",
            chain="chain",
            actor="bot-eve",
            command=msgspec.Raw(b'{"command":"Jot","note_id":"n2","bot_id":"eve","text":"b","mood":"new"}'),
        )
    )
    async with bench.working(handler):
        await bot.send([jot(1), future, b'"rubbish"', jot(3)])
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [type(each) for each in outcomes] == [Committed, Failed, Failed, Committed]
    assert outcomes[1].command_id == "c2"
    letters = {each.id: each for each in await bench.letters()}
    assert len(letters) == 2
    buried = letters[outcomes[1].dead_letter] if isinstance(outcomes[1], Failed) else None
    assert buried is not None
    assert (buried.subject.split(".")[3:], buried.body) == (["bot-eve", "n2"], future.decode())

    # A newer owner understands the word.
    newer = msgspec.defstruct(
        "Jot",
        [("mood", str, "")],
        bases=(Jot,),
        frozen=True,
        kw_only=True,
        tag="Jot",
    )
    replay = Replay(Intake([Route(newer, handler)]), bench.dead, Refusals(SERVICE, bench.store, lambda: NOON))
    assert isinstance(await replay.replay(ReplayDead(id=buried.id, actor="key:1")), Committed)
    assert sorted(await notes(bench)) == ["a", "a", "b"]


async def test_what_fails_five_times_is_buried_alone_and_what_was_refused_is_on_record_once(
    bench: Bench, bot: Bot
) -> None:
    async with bench.working(await bench.handler()):
        await bot.send([jot(1), jot(2, "break"), jot(3, "gone"), jot(4)])
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [type(each) for each in outcomes] == [Committed, Failed, Refused, Committed]
    [buried] = await bench.letters()
    assert (buried.attempts, buried.subject.split(".")[3:]) == (5, ["bot-eve", "n2"])
    assert msgspec.json.decode(buried.body)["id"] == "c2"
    assert len(await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")) == 1


@pytest.mark.parametrize(
    "forged",
    [
        jot(2, bot="mallory"),
        letter(WriteNote(note_id="n2", text="a"), sender="bot-eve", command_id="c2", chain="chain"),
        letter(Jot(note_id="*", bot_id="eve", text="a"), sender="bot-eve", command_id="c2", chain="chain"),
        letter(Jot(note_id="a.b", bot_id="eve", text="a"), sender="bot-eve", command_id="c2", chain="chain"),
    ],
    ids=["for another bot", "what people may", "no aggregate", "two tokens"],
)
async def test_who_may_not_ask_is_refused_inside_a_parcel_too(bench: Bench, bot: Bot, forged: Letter) -> None:
    async with bench.working(await bench.handler()):
        await bot.send([jot(1), forged, jot(3)])
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [type(each) for each in outcomes] == [Committed, Refused, Committed]
    assert isinstance(outcomes[1], Refused)
    assert (outcomes[1].command_id, outcomes[1].code) == ("c2", "sender_refused")
    assert await notes(bench) == ["a", "a"]
    [record] = await every(bench.gateway, "EVENTS", "evt.audit.orchestrator")
    assert b"bot-eve" in record.data


@pytest.mark.parametrize("count", [0, PARCEL_MAX + 1])
async def test_an_empty_parcel_and_one_too_full_are_no_parcels(bench: Bench, bot: Bot, count: int) -> None:
    body = b'{"parcel":[' + b",".join(jot(number).data for number in range(count)) + b"]}"
    async with bench.working(await bench.handler()):
        await store(bot.connection, Letter("cmd.orchestrator.bot-eve.n1", body, new_id()))
        await until(bench.letters)
        await until(bench.nothing_waits)

    [buried] = await bench.letters()
    assert f"a parcel of {count} commands" in buried.reason
    assert await notes(bench) == []


async def test_only_bots_send_parcels(bench: Bench) -> None:
    publisher = await bench.publisher(bench.gateway)
    async with bench.working(await bench.handler()):
        await publisher.publish("cmd.orchestrator.gateway.n1", parcel([jot(1), jot(2)]).data)
        await until(bench.letters)

    assert await notes(bench) == []


async def test_a_parcel_in_which_one_command_kills_its_process_loses_only_that_one(
    bench: Bench, bot: Bot
) -> None:
    """Ten deliveries in vain, and three marks beside the second: a process that it killed each time."""
    handler = await bench.handler()
    suspects = Suspects(SERVICE, bench.owner, await bench.publisher(bench.owner))
    await bot.send([jot(1, "before"), jot(2, "killer"), jot(3, "after")])
    [command] = await every(bench.gateway, command_stream(SERVICE), "cmd.>")
    for marks in range(3):
        assert marks == await suspects.marks(command.sequence, 1)
        await suspects.begin(command.sequence, marks, 1)
    await bench.deliver_in_vain(times=10)

    async with bench.working(handler):
        outcomes = await bot.outcomes()
        await until(bench.nothing_waits)

    assert [type(each) for each in outcomes] == [Committed, Failed, Committed]
    [buried] = await bench.letters()
    assert buried.reason.startswith("kills_its_process")
    assert await notes(bench) == ["before", "after"]


async def test_a_broker_that_dies_in_the_middle_of_parcels_loses_nothing_and_doubles_nothing(
    bench: Bench, bot: Bot
) -> None:
    sent = [
        [jot(number % 40, str(number), command_id=f"c{number}") for number in range(first, first + 50)]
        for first in range(0, 500, 50)
    ]
    async with bench.working(await bench.handler()), asyncio.TaskGroup() as group:
        for letters in sent:
            group.create_task(bot.send(letters))
        await until(lambda: _some_are_stored(bench, 60), within_s=20)
        bench.broker.kill()
        bench.broker.restart()
    async with bench.working(await bench.handler()):
        await until(lambda: _all_gone(bench), within_s=30)

    assert sorted(await notes(bench)) == sorted(str(number) for number in range(500))
    assert await bench.letters() == []


async def _all_gone(bench: Bench) -> bool:
    with suppress(Unavailable):  # the broker is just coming back
        return await bench.nothing_waits()
    return False


async def _some_are_stored(bench: Bench, count: int) -> bool:
    return await bench.store.last_sequence() >= count


async def test_what_a_bot_says_does_not_wait_behind_a_batch_of_submissions(bench: Bench, bot: Bot) -> None:
    """A thousand were there before it; it begins as soon as it is delivered."""
    async with asyncio.TaskGroup() as group:
        for number in range(1_000):
            note = WriteNote(note_id=f"w{number}", text="written")
            group.create_task(bench.send(note, actor="k", wait_s=0))
    await bot.send([jot(1, "jotted")])
    async with bench.working(await bench.handler()):
        await bot.outcomes()
        before = (await notes(bench)).index("jotted")
        await until(bench.nothing_waits, within_s=30)

    assert before < 900
    assert len(await notes(bench)) == 1_001
