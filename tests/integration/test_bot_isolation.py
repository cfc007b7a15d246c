"""Five bots, each a process of its own: what is said to one is heard by that one, once and in order.

Each bot writes down what it does in its own folder: what is looked at is what its process did, and not only
what the hive says of it.
"""

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.integration.isolation import Observation, Sent, faults
from tests.integration.person import Person, person
from tests.support.embedded import EmbeddedHive

BOTS = ("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON")
NOTE = """import pathlib, sys
with open("done.txt", "a") as done:
    done.write(sys.argv[1] + "\\n")
print(pathlib.Path.cwd().name, "did", sys.argv[1])
"""
RAPID = 10

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
_numbers = count()


class Five:
    """The five bots, and what was sent to them in one test."""

    def __init__(self, hive: EmbeddedHive, folder: Path) -> None:
        self.hive = hive
        self._folder = folder
        self._sent: list[tuple[int, Sent]] = []
        self._before = {bot: len(self._lines(bot)) for bot in BOTS}

    async def ask(self, person: Person, bot: str, *, priority: str = "P2") -> dict[str, Any]:
        """Have a bot note a word that no other has; the message."""
        word = f"{bot}-{next(_numbers)}"
        message = await person.say(bot, f"python3 note.py {word}", priority=priority)
        self.note(message, word)
        return message

    def note(self, message: dict[str, Any], word: str) -> None:
        """It was sent."""
        sent = Sent(word, message["sender"], message["recipient"], message["priority"])
        self._sent.append((message["sequence"], sent))

    def seen(self) -> Observation:
        """What was sent, as it was accepted, and what each process did since the test began."""
        accepted = [sent for _, sent in sorted(self._sent)]
        return Observation(accepted, {bot: self._lines(bot)[self._before[bot] :] for bot in BOTS})

    def _lines(self, bot: str) -> list[str]:
        done = self._folder / bot / "done.txt"
        return done.read_text().splitlines() if done.exists() else []


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHive]:
    """A hive with the five bots, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("five")
    hive = EmbeddedHive(folder, roots=(folder,))
    hive.start()
    try:
        asyncio.run(_launch(hive, folder))
        yield hive
    finally:
        hive.stop()


async def _launch(hive: EmbeddedHive, folder: Path) -> None:
    await hive.ready()
    for bot in BOTS:
        (folder / bot).mkdir()
        (folder / bot / "note.py").write_text(NOTE)
        await hive.launch(bot, engine="shell", workspace=str(folder / bot))


@pytest.fixture
def five(hive: EmbeddedHive) -> Five:
    return Five(hive, hive.output.parent)


def answers_as_observed(histories: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """What each bot answered, by its history, oldest first."""
    return {
        bot: [each["in_reply_to"] for each in reversed(history) if each["sender"] == bot]
        for bot, history in histories.items()
    }


async def histories(person: Person) -> dict[str, list[dict[str, Any]]]:
    return {bot: await person.history(bot) for bot in BOTS}


async def test_a_message_to_one_reaches_only_that_one(five: Five) -> None:
    async with person(five.hive) as somebody:
        before = await histories(somebody)
        message = await five.ask(somebody, "ALPHA")
        answer = await somebody.answer_to(message)
        after = await histories(somebody)

    assert faults(five.seen()) == {}
    assert (answer["sender"], answer["recipient"]) == ("ALPHA", message["sender"])
    assert answer["content"].startswith("ALPHA did ALPHA-")
    assert len(after["ALPHA"]) == len(before["ALPHA"]) + 2
    assert all(after[bot] == before[bot] for bot in BOTS if bot != "ALPHA")


async def test_five_different_commands_at_once_are_each_answered_by_their_own_bot(five: Five) -> None:
    commands = {
        "ALPHA": ("echo one two", "one two"),
        "BETA": ("pwd", "BETA"),
        "GAMMA": ("wc -l note.py", "4 note.py"),
        "DELTA": ("python3 -c print(6*7)", "42"),
        "EPSILON": ("head -n 1 note.py", "import pathlib, sys"),
    }
    async with person(five.hive) as somebody:
        asked = await asyncio.gather(*(somebody.say(bot, said[0]) for bot, said in commands.items()))
        answers = await somebody.answers_to(asked)
        told = await histories(somebody)

    for (bot, (_, output)), message, answer in zip(commands.items(), asked, answers, strict=True):
        assert (answer["sender"], answer["in_reply_to"]) == (bot, message["id"])
        assert answer["content"].strip().endswith(output)
        assert answer["error"] is None
    sent = [Sent(each["id"], each["sender"], each["recipient"]) for each in asked]
    answered = {bot: ids[-1:] for bot, ids in answers_as_observed(told).items()}
    assert faults(Observation(sent, answered)) == {}


async def test_each_bot_has_a_history_of_its_own_newest_first(five: Five) -> None:
    async with person(five.hive) as somebody:
        asked = [await five.ask(somebody, bot) for bot in BOTS for _ in range(2)]
        await somebody.answers_to(asked)
        told = await histories(somebody)

    for bot, history in told.items():
        assert all(bot in {each["sender"], each["recipient"]} for each in history)
        order = [each["sequence"] for each in history]
        assert order == sorted(set(order), reverse=True)
        questions = [each["id"] for each in history if each["recipient"] == bot]
        assert sorted(questions) == sorted(answers_as_observed(told)[bot])
    assert faults(five.seen()) == {}


async def test_a_stopped_bot_finds_its_mail_and_the_others_never_notice(five: Five) -> None:
    others = [bot for bot in BOTS if bot != "BETA"]
    async with person(five.hive) as somebody:
        before = {bot: await somebody.bot(bot) for bot in others}
        await somebody.tell("BETA", "stop")
        await somebody.until("BETA", ["stopped"])
        waiting = [await five.ask(somebody, "BETA") for _ in range(3)]
        await somebody.answers_to([await five.ask(somebody, bot) for bot in others])
        while_away = five.seen()
        inbox = await somebody.inbox("BETA")
        await somebody.tell("BETA", "start")
        await somebody.answers_to(waiting)
        after = {bot: await somebody.bot(bot) for bot in others}

    words = [each.id for each in while_away.sent if each.recipient == "BETA"]
    assert faults(while_away) == {"lost": words}
    assert inbox["pending"] == inbox["unread"] == 3
    assert faults(five.seen()) == {}
    assert [after[bot]["pid"] for bot in others] == [before[bot]["pid"] for bot in others]


async def test_a_restarted_bot_goes_on_where_it_was_and_the_others_never_notice(five: Five) -> None:
    others = [bot for bot in BOTS if bot != "GAMMA"]
    async with person(five.hive) as somebody:
        before = {bot: await somebody.bot(bot) for bot in BOTS}
        history = await somebody.history("GAMMA")
        asked = [await five.ask(somebody, "GAMMA") for _ in range(3)]
        restart = asyncio.create_task(somebody.tell("GAMMA", "restart"))
        for _ in range(4):
            asked += await asyncio.gather(*(five.ask(somebody, bot) for bot in BOTS))
        await restart
        await somebody.answers_to(asked)
        after = {bot: await somebody.bot(bot) for bot in BOTS}
        kept = await somebody.history("GAMMA")

    assert faults(five.seen()) == {}
    assert after["GAMMA"]["generation"] > before["GAMMA"]["generation"]
    assert [after[bot]["pid"] for bot in others] == [before[bot]["pid"] for bot in others]
    assert [each["id"] for each in kept[-len(history) :]] == [each["id"] for each in history]


async def test_fifty_rapid_messages_come_once_and_in_order(five: Five) -> None:
    async def ten(somebody: Person, bot: str) -> list[dict[str, Any]]:
        return [await five.ask(somebody, bot) for _ in range(RAPID)]

    async with person(five.hive) as somebody:
        asked = await asyncio.gather(*(ten(somebody, bot) for bot in BOTS))
        await somebody.answers_to([message for each in asked for message in each])
        told = await histories(somebody)

    assert faults(five.seen()) == {}
    answered = {bot: ids[-RAPID:] for bot, ids in answers_as_observed(told).items()}
    sent = [Sent(each["id"], each["sender"], each["recipient"]) for ten in asked for each in ten]
    assert faults(Observation(sent, answered)) == {}


async def test_five_websockets_are_told_their_own_bots_words_once_and_in_order(five: Five) -> None:
    async def talk(somebody: Person, bot: str) -> list[dict[str, Any]]:
        last = max((each["sequence"] for each in await somebody.history(bot)), default=0)
        words = [f"{bot}-{next(_numbers)}" for _ in range(4)]
        async with somebody.socket(bot, after=last) as chat:
            for word in words[:2]:
                await chat.say(word, f"python3 note.py {word}")
            texts = await chat.hear(3)
        async with somebody.socket(bot, after=texts[-1]["sequence"]) as again:
            for word in words[2:]:
                await again.say(word, f"python3 note.py {word}")
            texts = [*texts, *await again.hear(5)]
        for text in texts:
            if text["recipient"] == bot:
                five.note(text, text["content"].rpartition(" ")[2])
        return texts

    async with person(five.hive) as somebody:
        heard = dict(zip(BOTS, await asyncio.gather(*(talk(somebody, bot) for bot in BOTS)), strict=True))
        told = await histories(somebody)

    assert faults(five.seen()) == {}
    for bot, texts in heard.items():
        order = [text["sequence"] for text in texts]
        assert order == sorted(set(order))
        assert {text["id"] for text in texts} == {each["id"] for each in told[bot][:8]}
        questions = [text for text in texts if text["recipient"] == bot]
        sent = [Sent(each["id"], each["sender"], bot) for each in questions]
        answers = [text["in_reply_to"] for text in texts if text["sender"] == bot]
        assert faults(Observation(sent, {bot: answers})) == {}
