"""How messages are sent and read from the command line."""

import msgspec
import pytest

from shared.contracts.dead import DeadLetter
from shared.contracts.messenger.facts import MessageError
from shared.contracts.messenger.queries import DeliverySummary, Inbox, MessagingStatus
from shared.contracts.words import BotId, Party
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, document, message, page, problem


def test_a_message_is_sent_as_it_was_typed(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/messages", document(message(), 201))

    result = run(
        *("send", "alpha", "beta", "--priority", "P0", "--ttl", "2h", "--hold", "--reply-to", "m0"),
        *("--deliveries", "5", "--chat", "--key", "k", "the build is red"),
    )

    assert (result.exit_code, result.stdout) == (0, "m1\n"), result.output
    assert "delivered to beta (P0); `hive message show m1` follows it" in result.stderr
    assert hive.body() == {
        "from": "alpha",
        "to": "beta",
        "content": "the build is red",
        "priority": "P0",
        "kind": "chat",
        "ttl_s": 7200,
        "in_reply_to": "m0",
        "deliveries_max": 5,
        "hold": True,
    }
    assert hive.last.headers["Idempotency-Key"] == "k"


def test_without_a_sender_one_speaks_for_oneself(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/messages", document(message(sender=Party("@me")), 201))

    assert run("send", "beta", "-", sent=b"from a pipe").exit_code == 0
    assert hive.body() == {"to": "beta", "content": "from a pipe", "priority": "P2"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("alpha",), "in quotes"),
        (("alpha", "beta", "two", "words"), "in quotes"),
        (("beta", ""), "empty"),
        (("beta", "x" * 10_001), "at most 10,000"),
        (("beta", "x", "--priority", "P9"), "P9"),
        (("beta", "x", "--ttl", "soon"), "no length of time"),
    ],
)
def test_what_is_no_message_is_a_usage_error(
    run: Run, hive: FakeHive, words: tuple[str, ...], why: str
) -> None:
    result = run("send", *words)

    assert result.exit_code == 2
    assert why in result.stderr
    assert hive.asked == []


def test_an_unknown_recipient_is_exit_3_and_says_how_to_hold(run: Run, hive: FakeHive) -> None:
    refused = problem(404, "recipient_unknown", "there is no bot betta; there is beta")
    hive.on("POST /v1/messages", refused)

    result = run("send", "betta", "x")

    assert result.exit_code == 3
    assert "there is beta" in result.stderr
    assert "--hold" in result.stderr


def test_a_held_message_says_for_whom_it_waits(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/messages", document(message(state="pending", held=True), 201))

    assert "held for beta, of whom nobody has heard yet" in run("send", "beta", "x", "--hold").stderr


def test_a_full_inbox_is_exit_5_and_says_what_still_gets_through(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/messages", problem(429, "inbox_full", "beta has 10,000 unread messages"))

    result = run("send", "beta", "x")

    assert result.exit_code == 5
    assert "only P0 gets through" in result.stderr


def test_a_message_that_is_only_stored_is_asked_for_until_it_is_decided(run: Run, hive: FakeHive) -> None:
    stored = document({"id": "m1", "state": "accepted"}, 202, Location="/v1/messages/m1")
    hive.on("POST /v1/messages", stored)
    hive.on("GET /v1/messages/m1", stored, document(message()))

    assert run("send", "beta", "x").stdout == "m1\n"
    assert hive.routes() == ["POST /v1/messages", "GET /v1/messages/m1", "GET /v1/messages/m1"]


def test_an_inbox_shows_messages_newest_first_and_counts_what_is_unread(run: Run, hive: FakeHive) -> None:
    answer = message("m2", "delivered", error=MessageError(code="timed_out", detail="after 60 s"), content="")
    box = Inbox(items=[answer, message("m1", "read")], unread=7, pending=2)
    hive.on("GET /v1/bots/beta/inbox", document(box))

    result = run("inbox", "beta", "--unread", "--priority", "P0", "--state", "delivered")

    assert dict(hive.last.url.params) == {
        "limit": "50",
        "unread": "true",
        "priority": "P0",
        "state": "delivered",
    }
    heading, second, first = result.stdout.splitlines()
    assert heading.split() == ["ID", "SENT", "STATE", "PRIORITY", "FROM", "TO", "TEXT"]
    assert (second.split()[0], first.split()[0]) == ("m2", "m1")
    assert "no answer: after 60 s (timed_out)" in second
    assert result.stderr == "7 unread, 2 of them on their way\n"


def test_an_inbox_comes_page_by_page(run: Run, hive: FakeHive) -> None:
    first = Inbox(
        items=[message(f"m{number}") for number in range(200)], unread=300, pending=0, next_cursor="9"
    )
    hive.on(
        "GET /v1/bots/beta/inbox", document(first), document(Inbox(items=[message()], unread=300, pending=0))
    )

    told = msgspec.json.decode(run("inbox", "beta", "--limit", "300", "--json").stdout, type=Inbox)

    assert (len(told.items), told.unread, told.next_cursor) == (201, 300, None)
    assert dict(hive.last.url.params) == {"limit": "100", "cursor": "9"}


def test_ones_own_inbox_needs_no_name(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/inbox", document(Inbox(items=[], unread=0, pending=0)))

    result = run("inbox")

    assert result.exit_code == 0
    assert "No messages." in result.stderr


def test_what_is_read_is_marked_and_shown(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/messages/m1/read", document(message("m1", "read")))
    hive.on("POST /v1/messages/m2/read", problem(409, "not_delivered", "beta does not have it yet"))

    result = run("read", "m1", "m2")

    assert result.stdout == "the build is red\n"
    assert "alpha to beta" in result.stderr
    assert result.exit_code == 4
    assert "wait until the bot has it" in result.stderr


def test_a_message_is_shown_field_by_field_with_its_text(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/messages/m1", document(message(content="two\nlines", in_reply_to="m0")))

    result = run("message", "show", "m1")

    assert "from        alpha" in result.stdout
    assert "answers     m0" in result.stdout
    assert "deliveries  1 of at most 3" in result.stdout
    assert result.stdout.endswith("\n\ntwo\nlines\n")
    assert run("message", "show", "nothing").exit_code == 3


def test_a_conversation_may_be_with_a_person(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/conversations/@first/alpha", page(message(), next_cursor="3"))

    result = run("conversation", "@first", "alpha", "--limit", "1")

    assert "the build is red" in result.stdout
    assert "--cursor 3" in result.stderr
    assert hive.last.url.raw_path.startswith(b"/v1/conversations/%40first/alpha")


def summary(missing: int = 0, refused: dict[BotId, str] | None = None, **states: int) -> DeliverySummary:
    return DeliverySummary(
        id="b1",
        sender=Party("@me"),
        content="freeze at noon",
        selection="pool coders",
        sent_at=NOON,
        version=4,
        recipients=3,
        missing=missing,
        states=states,
        refused=refused or {},
    )


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--pool", "coders"), {"pool": "coders"}),
        (("--type", "code"), {"type": "code"}),
        (("--all",), {"all": True}),
        (
            ("--all", "--from", "alpha", "--chat", "--ttl", "60"),
            {"all": True, "from": "alpha", "kind": "chat", "ttl_s": 60},
        ),
    ],
)
def test_a_broadcast_says_to_whom_it_went(
    run: Run, hive: FakeHive, words: tuple[str, ...], asked: dict[str, object]
) -> None:
    hive.on("POST /v1/broadcasts", document(summary(pending=2, missing=1), 201))

    result = run("broadcast", *words, "freeze at noon")

    assert (result.exit_code, result.stdout) == (0, "b1\n"), result.output
    assert result.stderr == "to 3 bots (pool coders): 2 pending, 1 not accepted yet\n"
    assert hive.body() == {"content": "freeze at noon", "priority": "P2", **asked}


@pytest.mark.parametrize("words", [(), ("--all", "--pool", "x")])
def test_a_broadcast_needs_one_choice_of_recipients(run: Run, hive: FakeHive, words: tuple[str, ...]) -> None:
    assert run("broadcast", "x", *words).exit_code == 2
    assert hive.asked == []


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        (summary(read=2, delivered=1), 0),
        (summary(read=2, failed=1), 1),
        (summary(read=2, expired=1), 1),
        (summary(read=2, refused={BotId("c"): "its inbox is full"}), 4),
    ],
)
def test_waiting_for_a_broadcast_ends_with_what_became_of_it(
    run: Run, hive: FakeHive, end: DeliverySummary, exit_code: int
) -> None:
    hive.on("POST /v1/broadcasts", document(summary(missing=3), 201))
    hive.on("GET /v1/broadcasts/b1", document(summary(pending=1, read=2)), document(end))

    result = run("broadcast", "--all", "x", "--wait")

    assert result.exit_code == exit_code
    assert ("c: its inbox is full" in result.stderr) == (exit_code == 4)


def test_a_wait_that_ends_first_is_exit_6(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/broadcasts", document(summary(pending=3), 201))
    hive.on("GET /v1/broadcasts/b1", document(summary(pending=3)))

    assert run("broadcast", "--all", "--wait", "0.1", "x").exit_code == 6


def test_messaging_tells_what_waits(run: Run, hive: FakeHive) -> None:
    told = MessagingStatus(
        states={"read": 1_200, "pending": 3},
        waiting={"P0": 1, "P3": 2},
        oldest_waiting_s=90.0,
        sessions=5,
        full_inboxes=("beta",),
    )
    hive.on("GET /v1/messaging/status", document(told))

    shown = run("messaging").stdout

    assert "3 pending, 1,200 read" in shown
    assert "1 P0, 2 P3" in shown
    assert "1.5 min" in shown
    assert "beta" in shown


def test_a_message_among_the_dead_letters_is_shown_in_its_own_words(run: Run, hive: FakeHive) -> None:
    command = {
        "command": "ReplayMessage",
        "message_id": "m1",
        "sender": "alpha",
        "recipient": "beta",
        "content": "hi",
    }
    body = {"id": "m1", "chain": "m1", "actor": "messenger", "command": command}
    letter = DeadLetter(
        id="m1",
        service="messenger",
        subject="cmd.messenger.3.svc-messenger.m1",
        reason="delivered 3 times in vain",
        attempts=3,
        at=NOON,
        headers={},
        body=msgspec.json.encode(body).decode(),
    )
    hive.on("GET /v1/dlq", document({"items": [letter], "unavailable": []}))
    hive.on("GET /v1/dlq/m1", document(letter))

    assert "alpha to beta: hi" in run("dlq").stdout
    assert "about     alpha to beta: hi" in run("dlq", "show", "m1").stdout


@pytest.mark.parametrize(
    "words", [("send", "b", "x"), ("inbox", "b"), ("read", "m"), ("message", "show", "m")]
)
def test_every_answer_can_be_had_as_json(run: Run, hive: FakeHive, words: tuple[str, ...]) -> None:
    hive.on("POST /v1/messages", document(message(), 201))
    hive.on("GET /v1/bots/b/inbox", document(Inbox(items=[message()], unread=1, pending=0)))
    hive.on("POST /v1/messages/m/read", document(message()))
    hive.on("GET /v1/messages/m", document(message()))

    assert msgspec.json.decode(run(*words, "--json").stdout)
