"""What a chat message makes a bot do: its engine answers, and what it says comes back as a message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from bots.sdk import Bot, Failed, Task
from bots.turns import NO_OUTPUT
from shared.contracts.messenger.commands import ReadMessage, ReturnMessage, TakeMessage
from shared.contracts.messenger.facts import MessageError
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import MESSAGE_CHARS_MAX, MessageId, MessageKind, Party, Priority
from shared.runtime.clock import now
from tests.bots.overseer import live_chunks, oversee
from tests.bots.postmaster import Postmaster, messenger
from tests.support.nats_server import LocalBroker


class Asked:
    """A post office, and how to ask the bot something."""

    def __init__(self, postmaster: Postmaster) -> None:
        self.postmaster = postmaster

    async def chat(self, content: str, **more: Any) -> Mail:
        return await self.postmaster.send(content, kind=MessageKind.CHAT, **more)


@asynccontextmanager
async def answering(
    broker: LocalBroker, work: Callable[[Task], Awaitable[str | None]]
) -> AsyncIterator[Asked]:
    async with oversee(broker, "alpha"), messenger(broker) as postmaster:
        bot = Bot(broker.url, broker.creds("bot-alpha"), "alpha", slots=2)
        life = asyncio.ensure_future(bot.run(work))
        yield Asked(postmaster)
        async with asyncio.timeout(10):
            await bot.drain()
            await life


async def shout(task: Task) -> str:
    return task.content.upper()


async def test_the_engine_answers_a_chat_message(broker: LocalBroker) -> None:
    async with answering(broker, shout) as asked:
        question = await asked.chat("hello", priority=Priority.P1)

        answer = await asked.postmaster.answer_to(question)
        await asked.postmaster.heard(question, ReadMessage)

    assert (answer.content, answer.recipient, answer.error) == ("HELLO", "@kai", None)
    assert (answer.kind, answer.priority) == (MessageKind.NOTE, Priority.P1)


async def test_a_note_and_an_answer_lie_in_the_inbox_and_make_no_turn(broker: LocalBroker) -> None:
    async with answering(broker, shout) as asked:
        note = await asked.postmaster.send("for your information")
        answer = await asked.postmaster.send("an answer", in_reply_to=MessageId("m"))

        for message in (note, answer):
            taken = await asked.postmaster.heard(message, TakeMessage)
            assert isinstance(taken, TakeMessage)
            assert not taken.kept

        question = await asked.chat("last")
        await asked.postmaster.answer_to(question)
        assert [post.content for post in asked.postmaster.posts] == ["LAST"]


async def test_who_asked_sees_what_went_wrong(broker: LocalBroker) -> None:
    async def refuse(task: Task) -> str:
        task.write("I tried.")
        raise Failed("no_idea", "what is that?")

    async with answering(broker, refuse) as asked:
        question = await asked.chat("hello")
        answer = await asked.postmaster.answer_to(question)
        await asked.postmaster.heard(question, ReadMessage)

    assert answer.error == MessageError(code="no_idea", detail="what is that?")
    assert answer.content == "what is that? (no_idea)\n\nI tried."


async def test_a_turn_that_breaks_is_tried_again(broker: LocalBroker) -> None:
    tries = []

    async def stumble(task: Task) -> str:
        tries.append(task.attempt)
        if task.attempt == 1:
            raise ZeroDivisionError("an engine's own trouble")
        return "at last"

    async with answering(broker, stumble) as asked:
        question = await asked.chat("hello")
        returned = await asked.postmaster.heard(question, ReturnMessage)
        answer = await asked.postmaster.answer_to(question)

    assert isinstance(returned, ReturnMessage)
    assert (returned.code, returned.retryable) == ("engine_failed", True)
    assert answer.content == "at last"
    assert tries == [1, 2]


async def test_a_turn_ends_with_the_time_of_its_message(broker: LocalBroker) -> None:
    async def wait(task: Task) -> str:
        task.write("so far")
        await asyncio.Event().wait()
        return "never"

    async with answering(broker, wait) as asked:
        question = await asked.chat("hello", expires_at=now() + timedelta(seconds=0.5))
        answer = await asked.postmaster.answer_to(question)

    assert answer.error is not None
    assert answer.error.code == "timed_out"
    assert answer.content.endswith("\n\nso far")


async def test_an_answer_that_is_too_long_is_cut_and_says_so(broker: LocalBroker) -> None:
    async def ramble(_: Task) -> str:
        return "x" * 3 * MESSAGE_CHARS_MAX

    async with answering(broker, ramble) as asked:
        answer = await asked.postmaster.answer_to(await asked.chat("hello"))

    assert len(answer.content) == MESSAGE_CHARS_MAX
    assert answer.content.endswith(f"[cut: this is the beginning of {3 * MESSAGE_CHARS_MAX} characters]")


async def test_an_answer_holds_only_what_a_message_may(broker: LocalBroker) -> None:
    async def mumble(task: Task) -> str:
        raise Failed("what is\0 that?" * 20, "", retryable=False)

    async with answering(broker, mumble) as asked:
        answer = await asked.postmaster.answer_to(await asked.chat("hello"))

    assert answer.error is not None
    assert answer.error.code.startswith("what_is_that_what")
    assert len(answer.error.code) == 100
    assert answer.error.detail
    assert "\0" not in answer.content


async def test_an_engine_that_says_nothing_is_answered_for(broker: LocalBroker) -> None:
    async def be_silent(_: Task) -> str:
        return ""

    async with answering(broker, be_silent) as asked:
        answer = await asked.postmaster.answer_to(await asked.chat("hello"))

    assert answer.content == NO_OUTPUT


async def test_a_turn_is_shown_live_under_the_id_of_its_message(broker: LocalBroker) -> None:
    async def think(task: Task) -> str:
        task.write("thinking")
        await asyncio.sleep(0.1)
        return "done"

    async with answering(broker, think) as asked:
        question = await asked.chat("hello")
        await asked.postmaster.answer_to(question)

        [chunk] = await live_chunks(broker, question.message_id)

    assert (chunk.text, chunk.token) == ("thinking", 1)


async def test_a_message_whose_answer_nobody_may_get_fails_with_the_reason(broker: LocalBroker) -> None:
    async with answering(broker, shout) as asked:
        asked.postmaster.refused["gone"] = "recipient_unknown"
        question = await asked.chat("hello", sender=Party("gone"))

        returned = await asked.postmaster.heard(question, ReturnMessage)

    assert isinstance(returned, ReturnMessage)
    assert (returned.code, returned.retryable) == ("recipient_unknown", False)
