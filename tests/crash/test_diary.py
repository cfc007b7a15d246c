"""What holds diaries against the log finds what is wrong with either."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.messenger.facts import MessageEvent
from shared.contracts.messenger.facts import MessageExpired, MessageFailed, MessageRead, MessageSent
from shared.contracts.words import MessageId, MessageKind, Party, Priority
from shared.kernel.codec import encode
from shared.kernel.messages import Commit
from shared.runtime.store import Stored
from tests.crash.diary import BAD, Asks, Began, Diary, Did, Line, Sent, check

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def stored(sequence: int, second: float, message_id: str, *facts: MessageEvent, cause: str = "") -> Stored:
    commit = Commit(
        id=f"c{sequence}",
        at=at(second),
        actor="a",
        cause=cause or f"w{sequence}",
        chain="h",
        facts=[encode(fact) for fact in facts],  # type: ignore[misc] # as the log holds them
    )
    return Stored(sequence, "message", message_id, commit)


def sent(message_id: str, **more: Any) -> MessageSent:
    words: dict[str, Any] = {
        "sender": Party("north"),
        "recipient": Party("south"),
        "content": f"say {message_id}",
        "priority": Priority.P2,
        "kind": MessageKind.NOTE,
        "body_hash": "",
        "expires_at": at(1000),
        "deliveries_max": 3,
    }
    return MessageSent(message_id=MessageId(message_id), **{**words, **more})


def read(message_id: str) -> MessageRead:
    return MessageRead(message_id=MessageId(message_id), reader=Party("south"))


def did(message_id: str, sequence: int, *, life: str = "one") -> Did:
    return Did(life=life, id=message_id, sender="north", priority="P2", sequence=sequence)


LOG = (
    stored(1, 1, "m1", sent("m1")),
    stored(2, 2, "m2", sent("m2")),
    stored(3, 3, "m1", read("m1")),
    stored(4, 4, "m2", read("m2")),
)
NORTH: list[Line] = [
    Began(at=at(0), life="n"),
    *(
        line
        for each in ("m1", "m2")
        for line in (Asks(content=f"say {each}"), Sent(id=each, content=f"say {each}"))
    ),
]
SOUTH: list[Line] = [Began(at=at(0), life="one"), did("m1", 1), did("m2", 2)]


def held(
    log: Sequence[Stored] = LOG, north: Sequence[Line] = NORTH, south: Sequence[Line] = SOUTH
) -> dict[str, int]:
    return dict(check(log, {"north": Diary(list(north)), "south": Diary(list(south))}))


def test_what_was_sent_and_read_in_order_is_well() -> None:
    assert held() == {"MessageRead": 2}


def test_a_message_may_fail_or_expire() -> None:
    bad, late = sent("m1", content=f"{BAD} m1"), sent("m2", expires_at=at(3))
    log = [
        stored(1, 1, "m1", bad),
        stored(2, 2, "m2", late),
        stored(3, 3, "m1", MessageFailed(message_id=MessageId("m1"), code="bad", reason="no")),
        stored(4, 4, "m2", MessageExpired(message_id=MessageId("m2"))),
    ]
    north: list[Line] = [
        Asks(content=bad.content),
        Asks(content=late.content),
        Sent(id="m1", content=bad.content),
    ]

    assert held(log, north, SOUTH[:1]) == {"MessageFailed": 1, "MessageExpired": 1}


def test_the_next_process_may_do_again_what_was_not_known_to_be_read_when_it_began() -> None:
    again: list[Line] = [
        *SOUTH,
        Began(at=at(2.5), life="two"),
        did("m1", 1, life="two"),
        did("m2", 2, life="two"),
    ]

    assert held(south=again) == {"MessageRead": 2}


MORE = sent("m3")
TWICE = replace(LOG[2].commit, cause="w9")
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an accepted message is not there": ({"log": LOG[:1] + LOG[2:3]}, "not in the log"),
    "nobody sent it": ({"log": [*LOG, stored(5, 5, "m3", MORE, read("m3"))]}, "nobody asked"),
    "it is there twice": ({"log": [*LOG, stored(5, 5, "m1", sent("m1"))]}, "accepted twice"),
    "it was read twice": ({"log": [*LOG, Stored(5, "message", "m1", TWICE)]}, "read twice"),
    "a command was decided twice": (
        {"log": [*LOG[:3], stored(4, 4, "m2", read("m2"), cause="w2")]},
        "decided twice",
    ),
    "it never ended": ({"log": LOG[:3]}, "has not ended"),
    "it failed though it could be done": (
        {
            "log": [
                *LOG[:3],
                stored(4, 4, "m2", MessageFailed(message_id=MessageId("m2"), code="x", reason="")),
            ]
        },
        "m2: x",
    ),
    "it expired too soon": (
        {"log": [*LOG[:3], stored(4, 4, "m2", MessageExpired(message_id=MessageId("m2")))]},
        "too soon",
    ),
    "it was read and not done": ({"south": SOUTH[:2]}, "never did it"),
    "it was done twice in one process": ({"south": [*SOUTH, did("m1", 1)]}, "twice in one process"),
    "it was done again though it was known to be read": (
        {"south": [*SOUTH, Began(at=at(3.5), life="two"), did("m1", 1, life="two")]},
        "the log knew",
    ),
    "two were done the other way round": ({"south": [SOUTH[0], SOUTH[2], SOUTH[1]]}, "after 2"),
    "another did it": ({"north": [*NORTH, replace(did("m1", 1), life="n")]}, "what was for south"),
    "it was done under another number": ({"south": [SOUTH[0], did("m1", 9), did("m2", 2)]}, "another number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_that(name: str) -> None:
    changed, said = WRONG[name]

    with pytest.raises(AssertionError, match=said):
        held(**changed)
