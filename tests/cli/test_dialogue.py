"""What a chat makes of what it hears, in whichever order it comes."""

from typing import Any

import pytest

from cli.dialogue import Dialogue, Failed, Piece, Said
from cli.frames import Accepted, Gap, Live, State, Text, Wrong
from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import MessageId, MessageKind, Party
from tests.cli.fake_hive import message

ME = "@me"


def own(sequence: int = 1, content: str = "hi", **more: Any) -> MessageDoc:
    sent = {"sender": Party(ME), "recipient": Party("alpha"), "kind": MessageKind.CHAT}
    return message(f"m{sequence}", sequence=sequence, content=content, **sent, **more)


def answer(sequence: int = 2, to: str = "m1", content: str = "HI") -> MessageDoc:
    sent = {"sender": Party("alpha"), "recipient": Party(ME), "kind": MessageKind.CHAT}
    return message(f"m{sequence}", sequence=sequence, content=content, in_reply_to=MessageId(to), **sent)


def text(said: MessageDoc) -> Text:
    return Text(sequence=said.sequence, message=said)


@pytest.fixture
def dialogue() -> Dialogue:
    return Dialogue(me=ME, unsent={"r1": "hi"})


@pytest.mark.parametrize("step", [1, -1])
def test_what_one_typed_is_not_shown_again_and_waits_for_its_answer(dialogue: Dialogue, step: int) -> None:
    frames = [Accepted(ref="r1", id="m1", sequence=1), text(own())]
    for frame in frames[::step]:
        assert dialogue.hear(frame) is None

    assert (dialogue.unsent, dialogue.unanswered) == ({}, {"m1": 1})
    assert dialogue.hear(text(answer())) == Said(answer(), "")
    assert dialogue.open == 0


def test_an_answer_may_come_before_the_word_that_its_question_was_accepted(dialogue: Dialogue) -> None:
    dialogue.hear(text(own()))
    dialogue.hear(text(answer()))
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))

    assert dialogue.open == 0


def test_what_is_stored_and_not_decided_yet_waits_too(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1"))

    assert (dialogue.open, dialogue.after) == (1, 0)
    dialogue.hear(text(own()))
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))
    assert (dialogue.unsent, dialogue.unanswered) == ({}, {"m1": 1})


def test_what_was_stored_and_is_refused_then_is_not_waited_for(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1"))

    refused = dialogue.hear(Wrong(code="recipient_unknown", detail="it was retired", ref="r1"))

    assert refused == Failed("not sent: it was retired", "recipient_unknown")
    assert dialogue.open == 0


def test_what_one_said_elsewhere_is_shown_and_not_waited_for() -> None:
    dialogue = Dialogue(me=ME)

    assert dialogue.hear(text(own())) == Said(own(), "")
    assert dialogue.open == 0


def test_another_connection_begins_before_what_is_not_answered(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))
    dialogue.hear(text(own()))
    assert dialogue.hear(text(answer(5, to="m0"))) is not None
    assert (dialogue.seen, dialogue.after) == (5, 0)

    assert dialogue.hear(text(own())) is None  # told again by the new connection
    assert dialogue.hear(text(answer(5, to="m0"))) is None
    assert dialogue.hear(text(answer(6))) is not None
    assert dialogue.after == 6


def test_an_answer_that_was_missed_while_the_connection_was_away_ends_the_wait(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))
    dialogue.hear(text(own()))
    dialogue.hear(text(own(state="read")))
    assert dialogue.open == 1

    assert dialogue.hear(text(answer())) == Said(answer(), "")
    assert dialogue.open == 0


@pytest.mark.parametrize("state", ["failed", "expired"])
def test_a_message_without_an_answer_says_why(dialogue: Dialogue, state: str) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))

    failed = dialogue.hear(State(message_id="m1", state=state, reason="why"))

    assert failed == Failed(f"your message has {state}: why", state)
    assert dialogue.open == 0
    assert dialogue.hear(State(message_id="m1", state=state)) is None


def test_one_that_ended_while_the_connection_was_away_is_told_of(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))

    assert dialogue.hear(text(own(state="expired"))) == Failed("your message has expired", "expired")


def test_what_is_written_comes_piece_by_piece_and_no_piece_twice(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))
    pieces = [
        Live(message_id="m1", sequence=10 + number, text=word) for number, word in enumerate(("a", "b"))
    ]

    assert [dialogue.hear(piece) for piece in pieces] == [Piece("m1", "a"), Piece("m1", "b")]
    assert [dialogue.hear(piece) for piece in pieces] == [None, None]
    assert dialogue.hear(Live(message_id="m9", sequence=1, text="another's")) is None
    assert dialogue.hear(text(answer(content="abc"))) == Said(answer(content="abc"), "ab")


def test_what_was_missed_of_an_answer_is_shown_with_all_of_it(dialogue: Dialogue) -> None:
    dialogue.hear(Accepted(ref="r1", id="m1", sequence=1))
    dialogue.hear(Live(message_id="m1", sequence=10, text="a"))
    dialogue.hear(Gap(message_id="m1"))

    assert dialogue.hear(text(answer(content="abc"))) == Said(answer(content="abc"), "")


def test_a_refusal_ends_the_wait_and_a_request_to_wait_does_not(dialogue: Dialogue) -> None:
    dialogue.unsent["r2"] = "more"

    assert dialogue.hear(Wrong(code="inbox_full", detail="no", ref="r1", retry_after_s=3)) is None
    assert dialogue.wait_s == {"r1": 3}
    assert dialogue.hear(Wrong(code="scope_missing", detail="no", ref="r2")) == Failed(
        "not sent: no", "scope_missing"
    )
    assert dialogue.unsent == {"r1": "hi"}
    assert dialogue.hear(Wrong(code="scope_missing", detail="no")) is None  # of what was marked as read
