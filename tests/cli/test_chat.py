"""A person talks to a bot: typed, or through a pipe."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from websockets.sync.server import ServerConnection

from shared.contracts.messenger.facts import MessageError
from shared.contracts.messenger.queries import MessageDoc
from tests.cli.conftest import Run
from tests.cli.fake_chat import FakeChat, accept, echo, ended, live
from tests.cli.fake_hive import FakeHive, problem
from tests.cli.terminal import Terminal, environment, lines

Type = Callable[..., Result]
Typed = Callable[..., Terminal]


@pytest.fixture
def chat(hive: FakeHive) -> Iterator[FakeChat]:
    chat = FakeChat()
    hive.on("GET /v1/conversations/@me/alpha", chat._history)
    with chat.serving():
        yield chat


@pytest.fixture
def piped(run: Run, chat: FakeChat) -> Type:
    def piped(sent: str, *words: str) -> Result:
        return run("chat", "alpha", *words, sent=sent.encode(), env={"HIVE_URL": chat.url})

    return piped


@pytest.fixture
def typed(chat: FakeChat, tmp_path: Path) -> Typed:
    def typed(*words: str) -> Terminal:
        return Terminal(("chat", "alpha", *words), environment(chat.url, tmp_path, {}))

    return typed


def test_each_line_of_a_pipe_is_answered(piped: Type, chat: FakeChat) -> None:
    chat.add("alpha", "from before")

    result = piped("one\n\ntwo\n")

    assert (result.exit_code, result.stdout) == (0, "ONE\nTWO\n"), result.output
    assert [frame["content"] for frame in chat.heard if frame["type"] == "text"] == ["one", "two"]
    assert chat.afters == [1]  # what was there before is not said again
    assert chat.until_heard({"type": "ack", "sequence": 5})


def test_many_lines_are_sent_a_few_at_a_time(piped: Type, chat: FakeChat) -> None:
    waiting: list[tuple[ServerConnection, MessageDoc]] = []
    most = 0

    def later(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        nonlocal most
        accept(chat, connection, own)
        chat.show(own)
        waiting.append((connection, own))
        most = max(most, len(waiting))
        if len(waiting) == 8 or own.content == "29":
            for _, asked in waiting:
                chat.say(asked.content, in_reply_to=asked.id)
            waiting.clear()

    chat.answer = later

    result = piped("".join(f"{number}\n" for number in range(30)))

    assert result.stdout.split() == [str(number) for number in range(30)]
    assert most == 8


def test_as_json_each_thing_that_happens_is_a_line(piped: Type, chat: FakeChat) -> None:
    def written(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        accept(chat, connection, own)
        connection.send(live(own, 0, "O"))
        chat.say("ONE", in_reply_to=own.id)

    chat.answer = written

    told = [msgspec.json.decode(line) for line in piped("one\n", "--json").stdout.splitlines()]

    assert [each["type"] for each in told] == ["live", "text"]
    assert told[0] == {"type": "live", "message_id": "m1", "text": "O"}
    assert told[1]["message"]["content"] == "ONE"


def test_a_connection_that_breaks_is_opened_again_and_nothing_is_said_twice(
    piped: Type, chat: FakeChat
) -> None:
    def break_first(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        chat.answer = echo
        if own.content == "one":  # stored, but nobody hears that it is
            chat.add("alpha", "ONE", in_reply_to=own.id)
        chat.drop()

    chat.answer = break_first

    result = piped("one\ntwo\n")

    assert (result.exit_code, result.stdout) == (0, "ONE\nTWO\n"), result.output
    assert [said.content for said in chat.said] == ["one", "ONE", "two", "TWO"]
    assert len(chat.afters) == 2


def test_a_hive_that_moves_is_followed(piped: Type, chat: FakeChat) -> None:
    def move(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        accept(chat, connection, own)
        chat.show(own)
        chat.add("alpha", "ONE", in_reply_to=own.id)
        chat.answer = echo
        chat.close(1012, "moved")

    chat.answer = move

    result = piped("one\n")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "ONE\n", "")
    assert chat.afters == [0, 0]  # so early that the answer is told


@pytest.mark.parametrize(("state", "exit_code"), [("failed", 1), ("expired", 1)])
def test_a_message_that_gets_no_answer_is_exit_1(
    piped: Type, chat: FakeChat, state: str, exit_code: int
) -> None:
    def lose(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        accept(chat, connection, own)
        connection.send(ended(own.id, state, "delivered 3 times in vain"))

    chat.answer = lose

    result = piped("one\n")

    assert result.exit_code == exit_code
    assert f"your message has {state}: delivered 3 times in vain" in result.stderr


def test_an_answer_that_says_that_there_is_none_is_exit_1(piped: Type, chat: FakeChat) -> None:
    def fail(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        accept(chat, connection, own)
        error = MessageError(code="not_allowed", detail="rm is not on the list")
        chat.say("", in_reply_to=own.id, error=error)

    chat.answer = fail

    result = piped("rm -rf /\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "alpha could not answer: rm is not on the list (not_allowed)" in result.stderr


def test_a_message_that_is_refused_is_exit_4(piped: Type, chat: FakeChat) -> None:
    def refuse(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        ref = next(ref for ref, each in chat.refs.items() if each.id == own.id)
        chat.tell(
            {"type": "error", "code": "scope_missing", "detail": "this needs messages:write", "ref": ref}
        )

    chat.answer = refuse

    result = piped("one\n")

    assert result.exit_code == 4
    assert "not sent: this needs messages:write" in result.stderr


def test_an_answer_that_is_missing_when_the_wait_ends_is_exit_6(piped: Type, chat: FakeChat) -> None:
    chat.answer = accept

    result = piped("one\n", "--wait", "0.1")

    assert result.exit_code == 6
    assert "1 of your messages is not answered yet" in result.stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "bot_not_found", 3), (403, "scope_missing", 4), (503, "unavailable", 5)],
)
def test_who_is_not_let_in_is_told_why(
    piped: Type, chat: FakeChat, status: int, code: str, exit_code: int
) -> None:
    chat.refuse = problem(status, code, "there is no bot alpha")

    result = piped("one\n")

    assert result.exit_code == exit_code
    assert "there is no bot alpha" in result.stderr


def test_a_key_that_is_revoked_meanwhile_ends_it_with_exit_4(piped: Type, chat: FakeChat) -> None:
    def revoke(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        chat.close(4401, "key_revoked: This key is revoked.")

    chat.answer = revoke

    result = piped("one\n")

    assert result.exit_code == 4
    assert "key_revoked" in result.stderr


def test_no_hive_is_exit_5(run: Run) -> None:
    assert run("chat", "alpha", sent=b"x\n", env={"HIVE_URL": "http://127.0.0.1:1"}).exit_code == 5


def test_a_person_sees_what_was_said_before_and_the_answer_as_it_is_written(
    typed: Typed, chat: FakeChat
) -> None:
    go = threading.Event()

    def written(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
        accept(chat, connection, own)
        chat.show(own)
        connection.send(live(own, 0, "first line\nsecond "))
        go.wait(20)
        connection.send(live(own, 1, "line\n"))
        chat.say("first line\nsecond line\nthe end\n", in_reply_to=own.id)

    chat.answer = written
    chat.add("@me", "are you there?")
    chat.add("alpha", "yes")

    terminal = typed()
    terminal.until("You talk to alpha; Ctrl-D ends it.\r\n> ")
    terminal.type("count\n")
    terminal.until("first line")
    go.set()
    terminal.until("the end")
    terminal.type("\x04")

    assert terminal.ended() == 0
    shown = [line for line in lines(terminal.shown) if line != ">"]
    assert shown == [
        "you: are you there?",
        "alpha: yes",
        "You talk to alpha; Ctrl-D ends it.",
        "> count",
        "alpha:",
        "first line",
        "second line",
        "the end",
    ]


def test_what_is_typed_stays_when_the_bot_says_something(typed: Typed, chat: FakeChat) -> None:
    terminal = typed("--history", "0")
    terminal.until("> ")
    terminal.type("half a li")
    terminal.until("half a li")
    chat.until_open()
    chat.say("the build is red")
    terminal.until("alpha: the build is red\r\n> half a li")
    terminal.type("ne\n")
    terminal.until("alpha: HALF A LINE")
    terminal.until("> ")
    terminal.type("\x03")

    assert terminal.ended() == 0
    assert "Traceback" not in terminal.shown
    assert chat.refs.popitem()[1].content == "half a line"


def test_a_person_is_told_that_the_connection_is_lost_and_goes_on_when_it_is_back(
    typed: Typed, chat: FakeChat
) -> None:
    terminal = typed()
    terminal.until("> ")
    chat.until_open()
    chat.refuse = problem(503, "unavailable", "come again")
    chat.drop()
    terminal.until("the connection is lost")
    terminal.type("said meanwhile\n")
    terminal.until("said meanwhile")
    chat.refuse = None
    terminal.until("connected again")
    terminal.until("alpha: SAID MEANWHILE")
    terminal.type("\x04")

    assert terminal.ended() == 0
    assert [said.content for said in chat.said] == ["said meanwhile", "SAID MEANWHILE"]


def test_a_person_whose_key_is_revoked_is_told_and_let_go(typed: Typed, chat: FakeChat) -> None:
    terminal = typed()
    terminal.until("> ")
    chat.until_open()
    chat.close(4401, "key_revoked: This key is revoked.")

    assert terminal.ended() == 4
    assert "key_revoked" in terminal.shown
