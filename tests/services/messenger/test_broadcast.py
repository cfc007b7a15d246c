"""The rules of one broadcast, told as sentences."""

from typing import Any

import pytest

from services.messenger.commands import NoteSpread, OpenBroadcast
from services.messenger.decider import BROADCAST
from shared.contracts.messenger.facts import BroadcastSent, BroadcastSpread
from shared.contracts.words import BROADCAST_MAX, BotId
from tests.services.messenger.builders import broadcast
from tests.support.scenario import NOON, given


def opened(count: int = 2, **changed: Any) -> OpenBroadcast:
    recipients = tuple(BotId(f"bot{number}") for number in range(count))
    return OpenBroadcast(
        broadcast_id="b1", wish=broadcast(**changed), recipients=recipients, selection="pool coders"
    )


SENT = BROADCAST.decide(BROADCAST.initial, opened(), NOON)[0]
SPREAD = BroadcastSpread(broadcast_id="b1", refused={BotId("bot1"): "inbox_full"})


def test_a_broadcast_names_its_recipients() -> None:
    (sent,) = given(BROADCAST).when(opened()).then_kinds(BroadcastSent)
    assert isinstance(sent, BroadcastSent)
    assert (sent.recipients, sent.selection) == (("bot0", "bot1"), "pool coders")


def test_a_broadcast_that_reaches_nobody_or_too_many_is_refused() -> None:
    given(BROADCAST).when(opened(0)).then_rejected("no_recipients")
    given(BROADCAST).when(opened(BROADCAST_MAX)).then_kinds(BroadcastSent)
    given(BROADCAST).when(opened(BROADCAST_MAX + 1)).then_rejected("too_many_recipients")


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"content": ""}, "bad_content"), ({"ttl_s": 0.1}, "bad_ttl_s"), ({"sender": "a b"}, "bad_sender")],
)
def test_what_is_said_to_many_is_checked_like_what_is_said_to_one(changed: dict[str, Any], code: str) -> None:
    given(BROADCAST).when(opened(**changed)).then_rejected(code)


def test_the_same_broadcast_again_is_already_so_and_another_under_its_id_is_refused() -> None:
    for past in (given(BROADCAST, SENT), given(BROADCAST, SENT, SPREAD)):
        past.when(broadcast()).then_nothing()
        past.when(opened(5)).then_nothing()
        past.when(broadcast(body_hash="another")).then_rejected("broadcast_exists")


def test_it_is_spread_once() -> None:
    spread = NoteSpread(broadcast_id="b1", refused={BotId("bot1"): "inbox_full"})
    given(BROADCAST, SENT).when(spread).then(SPREAD)
    given(BROADCAST, SENT, SPREAD).when(spread).then_nothing()
    given(BROADCAST).when(spread).then_nothing()
