"""What a bot does with its mail: in which order, what it says about each, and what survives what."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from bots.sdk import Bot, Failed, Message, NoAnswer, NotSent
from bots.talk import OnMessage
from shared.contracts.messenger.commands import LetExpire, ReadMessage, ReturnMessage, TakeMessage
from shared.contracts.orchestrator.protocol import HeartbeatAnswer
from shared.contracts.words import MESSAGE_CHARS_MAX, MessageKind, Priority
from shared.kernel.errors import Unavailable
from shared.runtime.clock import now
from shared.runtime.ids import derived_id
from tests.bots.overseer import Overseer, oversee
from tests.bots.postmaster import Postmaster, messenger
from tests.support.nats_server import LocalBroker

SLOTS = 2


class Handler:
    """Notes what comes, and does what the content says."""

    def __init__(self) -> None:
        self.begun: list[Message] = []
        self.ended: list[str] = []
        self.go_on = asyncio.Event()
        self._news = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.begun.append(message)
        self._news.set()
        if message.content == "wait":
            await self.go_on.wait()
        if message.content == "fail":
            raise Failed("no_idea", "what is that?", retryable=False)
        if message.content == "fall" and message.delivery == 1:
            raise ZeroDivisionError("my own trouble")
        if message.content == "reply":
            await message.reply("the reply")
        self.ended.append(message.content)

    async def until_begun(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < number:
                self._news.clear()
                await self._news.wait()

    @property
    def contents(self) -> list[str]:
        return [message.content for message in self.begun]


class Stage:
    """A broker, the stand-ins, and one bot with a handler."""

    def __init__(self, overseer: Overseer, postmaster: Postmaster, bot: Bot, handler: Handler) -> None:
        self.overseer = overseer
        self.postmaster = postmaster
        self.bot = bot
        self.handler = handler


@asynccontextmanager
async def living(broker: LocalBroker, name: str, on_message: OnMessage) -> AsyncIterator[Bot]:
    bot = Bot(broker.url, broker.creds(f"bot-{name}"), name, slots=SLOTS)
    life = asyncio.ensure_future(bot.run(on_message=on_message))
    try:
        yield bot
    finally:
        async with asyncio.timeout(10):
            await bot.drain()
            await life


@pytest.fixture
async def stage(broker: LocalBroker) -> AsyncIterator[Stage]:
    handler = Handler()
    async with (
        oversee(broker, "alpha") as overseer,
        messenger(broker) as postmaster,
        living(broker, "alpha", handler) as bot,
    ):
        await postmaster.until(lambda: bool(postmaster.hellos))
        yield Stage(overseer, postmaster, bot, handler)
        handler.go_on.set()


async def test_a_message_is_handled_and_one_command_says_so(stage: Stage) -> None:
    sent = await stage.postmaster.send("hello")

    await stage.postmaster.heard(sent, ReadMessage)

    assert [type(word) for word in stage.postmaster.said(sent)] == [ReadMessage]
    [message] = stage.handler.begun
    assert (message.id, message.sender, message.content) == (sent.message_id, "@kai", "hello")
    assert (message.priority, message.kind) == (Priority.P2, MessageKind.NOTE)
    assert (message.sequence, message.delivery) == (sent.sequence, 1)


async def test_a_message_that_takes_longer_is_taken_first(stage: Stage) -> None:
    sent = await stage.postmaster.send("wait")

    taken = await stage.postmaster.heard(sent, TakeMessage)
    stage.handler.go_on.set()
    await stage.postmaster.heard(sent, ReadMessage)

    assert isinstance(taken, TakeMessage)
    assert taken.kept
    assert [type(word) for word in stage.postmaster.said(sent)] == [TakeMessage, ReadMessage]


async def test_a_handler_says_how_it_failed(stage: Stage) -> None:
    sent = await stage.postmaster.send("fail")

    returned = await stage.postmaster.heard(sent, ReturnMessage)

    assert isinstance(returned, ReturnMessage)
    assert (returned.code, returned.reason, returned.retryable) == ("no_idea", "what is that?", False)


async def test_a_handler_that_falls_ends_the_message_and_not_the_bot_and_gets_it_again(stage: Stage) -> None:
    sent = await stage.postmaster.send("fall")

    returned = await stage.postmaster.heard(sent, ReturnMessage)
    await stage.postmaster.heard(sent, ReadMessage)

    assert isinstance(returned, ReturnMessage)
    assert returned.retryable
    assert "ZeroDivisionError" in returned.reason
    assert [message.delivery for message in stage.handler.begun] == [1, 2]


async def test_what_a_sender_sent_later_waits_for_what_comes_again(stage: Stage) -> None:
    stage.postmaster.returns_at_once = False
    fallen = await stage.postmaster.send("fall", again=True)
    later = await stage.postmaster.send("later")
    other = await stage.postmaster.send("other", sender="beta")
    await stage.postmaster.heard(fallen, ReturnMessage)
    await stage.postmaster.heard(other, ReadMessage)

    await stage.postmaster.send("fall", message_id=fallen.message_id, delivery=2)
    await stage.postmaster.heard(later, ReadMessage)

    assert sorted(stage.handler.contents[:2]) == ["fall", "other"]
    assert stage.handler.contents[2:] == ["fall", "later"]


async def test_nothing_waits_for_what_comes_no_more_because_its_time_is_over(stage: Stage) -> None:
    stage.postmaster.returns_at_once = False
    await stage.postmaster.send("fall", again=True, expires_at=now() + timedelta(seconds=0.5))
    later = await stage.postmaster.send("later")

    await stage.postmaster.heard(later, ReadMessage)

    assert stage.handler.contents == ["fall", "later"]


async def test_a_busy_bot_says_that_it_holds_what_it_has_not_begun(stage: Stage) -> None:
    sent = [await stage.postmaster.send("wait") for _ in range(3)]
    await stage.handler.until_begun(1)

    await stage.postmaster.greet("alpha")
    await stage.postmaster.until(lambda: len(stage.postmaster.hellos) == 2)

    assert set(stage.postmaster.hellos[1].holding) == {message.message_id for message in sent}
    stage.handler.go_on.set()
    for message in sent:
        await stage.postmaster.heard(message, ReadMessage)
    assert len(stage.handler.begun) == 3


async def test_a_message_whose_time_is_over_is_not_shown(stage: Stage) -> None:
    sent = await stage.postmaster.send("late", expires_at=now() - timedelta(seconds=1))

    await stage.postmaster.heard(sent, LetExpire)

    assert stage.handler.begun == []


async def test_a_critical_message_overtakes_a_backlog(stage: Stage) -> None:
    for number in range(SLOTS):
        await stage.postmaster.send("wait", sender=f"@slow-{number}", priority=Priority.P3)
    for number in range(50):
        await stage.postmaster.send(f"{number}", priority=Priority.P3)
    await stage.handler.until_begun(SLOTS)

    urgent = await stage.postmaster.send("urgent", priority=Priority.P0)
    await stage.postmaster.heard(urgent, ReadMessage)

    assert len(stage.handler.begun) == SLOTS + 1


async def test_each_senders_messages_of_one_priority_are_handled_in_order(stage: Stage) -> None:
    sent = [
        await stage.postmaster.send(f"{sender}{number}", sender=sender)
        for number in range(30)
        for sender in ("beta", "gamma")
    ]

    for message in sent:
        await stage.postmaster.heard(message, ReadMessage)

    for sender in ("beta", "gamma"):
        heard = [message.content for message in stage.handler.begun if message.sender == sender]
        assert heard == [f"{sender}{number}" for number in range(30)]


async def test_what_was_lost_on_its_way_comes_again_in_its_place(stage: Stage) -> None:
    await stage.postmaster.send("wait", sender="@slow")
    await stage.handler.until_begun(1)
    stage.postmaster.lose = 1
    sent = [await stage.postmaster.send(f"{number}") for number in range(5)]

    for message in sent:
        await stage.postmaster.heard(message, ReadMessage)

    assert stage.handler.contents == ["wait", "0", "1", "2", "3", "4"]
    first, second = stage.postmaster.hellos
    assert first.session != second.session
    assert first.holding == ()
    assert second.holding == (stage.handler.begun[0].id,)


async def test_a_bot_that_is_greeted_begins_a_session_and_handles_nothing_twice(stage: Stage) -> None:
    await stage.postmaster.send("wait", sender="@slow")
    await stage.handler.until_begun(1)

    await stage.postmaster.greet("alpha")
    await stage.postmaster.until(lambda: len(stage.postmaster.hellos) == 2)
    sent = await stage.postmaster.send("after")
    await stage.postmaster.heard(sent, ReadMessage)

    assert stage.handler.contents == ["wait", "after"]


async def test_a_session_begins_anew_when_the_broker_was_away(stage: Stage, broker: LocalBroker) -> None:
    broker.kill()
    broker.restart()
    await stage.postmaster.until(lambda: len(stage.postmaster.hellos) >= 2, within_s=20)

    sent = await stage.postmaster.send("after")

    await stage.postmaster.heard(sent, ReadMessage)


async def test_hello_is_said_until_it_is_answered_by_another_name_each_time(broker: LocalBroker) -> None:
    async with (
        oversee(broker, "alpha"),
        living(broker, "alpha", Handler()),
        messenger(broker) as postmaster,
    ):
        postmaster.answering = False
        await postmaster.until(lambda: len(postmaster.hellos) >= 2, within_s=20)

        postmaster.answering = True
        sent = await postmaster.send("hello")
        await postmaster.heard(sent, ReadMessage)

        assert len({hello.session for hello in postmaster.hellos}) == len(postmaster.hellos)


async def test_a_drained_bot_ends_what_it_has_begun_and_leaves_the_rest(broker: LocalBroker) -> None:
    handler = Handler()
    async with oversee(broker, "alpha"), messenger(broker) as postmaster:
        async with living(broker, "alpha", handler) as bot:
            begun = await postmaster.send("wait")
            left = await postmaster.send("left")
            await handler.until_begun(1)
            await bot.drain()
            handler.go_on.set()
        await postmaster.heard(begun, ReadMessage)
        assert postmaster.said(left) == []

        async with living(broker, "alpha", handler):
            await postmaster.heard(left, ReadMessage)
        assert handler.contents == ["wait", "left"]


async def test_a_bot_that_is_told_to_leave_leaves_at_once_and_says_nothing_of_what_it_had(
    broker: LocalBroker,
) -> None:
    handler = Handler()
    async with oversee(broker, "alpha") as overseer, messenger(broker) as postmaster:
        async with living(broker, "alpha", handler):
            begun = await postmaster.send("wait")
            await postmaster.heard(begun, TakeMessage)
            overseer.answer = HeartbeatAnswer(stop=True)
        overseer.answer = HeartbeatAnswer()
        assert [type(word) for word in postmaster.said(begun)] == [TakeMessage]

        handler.go_on.set()
        async with living(broker, "alpha", handler):
            await postmaster.heard(begun, ReadMessage)
        assert handler.contents == ["wait", "wait"]


async def test_a_bot_that_has_left_sends_nothing_and_says_so(broker: LocalBroker) -> None:
    async with oversee(broker, "alpha"), messenger(broker):
        async with living(broker, "alpha", Handler()) as bot:
            pass
        with pytest.raises(Unavailable):
            await bot.send("beta", "hello")


async def test_a_reply_goes_back_linked_and_with_the_same_priority(stage: Stage) -> None:
    sent = await stage.postmaster.send("reply", sender="beta", priority=Priority.P1)

    answer = await stage.postmaster.answer_to(sent)

    assert (answer.recipient, answer.content, answer.priority) == ("beta", "the reply", Priority.P1)
    assert answer.kind is MessageKind.NOTE
    assert answer.bot_id == "alpha"


async def test_a_handler_that_is_run_again_does_not_reply_twice(stage: Stage) -> None:
    sent = await stage.postmaster.send("reply", sender="beta")
    await stage.postmaster.heard(sent, ReadMessage)
    again = await stage.postmaster.send("reply", sender="beta", message_id=sent.message_id, delivery=5)
    await stage.postmaster.until(lambda: len(stage.postmaster.said(again)) == 2)

    assert len(stage.postmaster.posts) == 1


async def test_messages_sent_at_once_arrive_in_the_order_in_which_they_were_begun(stage: Stage) -> None:
    ids = await asyncio.gather(*(stage.bot.send("beta", f"{number}") for number in range(200)))

    assert [post.content for post in stage.postmaster.posts] == [f"{number}" for number in range(200)]
    assert [post.message_id for post in stage.postmaster.posts] == ids


async def test_a_refused_message_says_why(stage: Stage) -> None:
    stage.postmaster.refused["nobody"] = "recipient_unknown"

    with pytest.raises(NotSent) as refused:
        await stage.bot.send("nobody", "hello")

    assert refused.value.code == "recipient_unknown"


async def test_a_message_that_is_too_long_is_not_sent(stage: Stage) -> None:
    with pytest.raises(NotSent, match="message_too_long"):
        await stage.bot.send("beta", "x" * (MESSAGE_CHARS_MAX + 1))

    assert stage.postmaster.posts == []


async def test_a_question_waits_for_its_answer_though_every_place_is_taken(stage: Stage) -> None:
    for number in range(SLOTS):
        await stage.postmaster.send("wait", sender=f"@slow-{number}")
    await stage.handler.until_begun(SLOTS)

    asking = asyncio.ensure_future(stage.bot.ask("beta", "how many?", within_s=10))
    await stage.postmaster.until(lambda: bool(stage.postmaster.posts))
    [question] = stage.postmaster.posts
    sent = await stage.postmaster.send("three", sender="beta", in_reply_to=question.message_id)
    answer = await asking

    assert question.kind is MessageKind.CHAT
    assert (answer.content, answer.sender) == ("three", "beta")
    await stage.postmaster.heard(sent, ReadMessage)
    assert stage.handler.contents == ["wait"] * SLOTS


async def test_only_who_was_asked_answers_a_question(stage: Stage) -> None:
    asking = asyncio.ensure_future(stage.bot.ask("beta", "how many?", within_s=10))
    await stage.postmaster.until(lambda: bool(stage.postmaster.posts))
    [question] = stage.postmaster.posts
    await stage.postmaster.send("a lie", sender="eve", in_reply_to=question.message_id)
    await stage.handler.until_begun(1)
    await stage.postmaster.send("three", sender="beta", in_reply_to=question.message_id)

    assert (await asking).content == "three"
    assert stage.handler.contents == ["a lie"]


async def test_an_answer_whose_id_somebody_took_first_is_sent_under_another(stage: Stage) -> None:
    stage.postmaster.taken.add(derived_id("reply", "a-broadcast-to-all"))
    sent = await stage.postmaster.send("reply", sender="beta", message_id="a-broadcast-to-all")

    answer = await stage.postmaster.answer_to(sent)

    assert answer.content == "the reply"
    await stage.postmaster.heard(sent, ReadMessage)


@pytest.mark.parametrize(
    "spoilt", [{"kind": "hologram"}, {"sequence": "first"}, {"content": None, "chain": 7}]
)
async def test_a_mail_that_cannot_be_read_is_returned_for_good_and_the_next_is_handled(
    stage: Stage, spoilt: dict[str, Any]
) -> None:
    stage.postmaster.spoilt["strange"] = spoilt
    strange = await stage.postmaster.send("strange", message_id="strange")
    plain = await stage.postmaster.send("hello")

    returned = await stage.postmaster.heard(strange, ReturnMessage)
    await stage.postmaster.heard(plain, ReadMessage)

    assert isinstance(returned, ReturnMessage)
    assert (returned.code, returned.retryable) == ("unreadable", False)
    assert stage.handler.contents == ["hello"]
    assert len(stage.postmaster.hellos) == 1


async def test_a_mail_of_which_nothing_can_be_read_does_not_hold_up_the_next(stage: Stage) -> None:
    stage.postmaster.spoilt["strange"] = {"message_id": 7}
    await stage.postmaster.send("strange", message_id="strange")
    plain = await stage.postmaster.send("hello")

    await stage.postmaster.heard(plain, ReadMessage)

    assert len(stage.postmaster.hellos) == 1


async def test_a_question_that_nobody_answers_ends_and_a_late_answer_is_a_message(stage: Stage) -> None:
    with pytest.raises(NoAnswer):
        await stage.bot.ask("beta", "how many?", within_s=0.3)

    [question] = stage.postmaster.posts
    sent = await stage.postmaster.send("three", sender="beta", in_reply_to=question.message_id)
    await stage.postmaster.heard(sent, ReadMessage)
    assert [message.in_reply_to for message in stage.handler.begun] == [question.message_id]


async def test_a_bot_without_work_is_given_no_tasks(stage: Stage) -> None:
    await stage.overseer.until(lambda: len(stage.overseer.heartbeats) >= 3)

    assert {heartbeat.free_slots for heartbeat in stage.overseer.heartbeats} == {0}
