"""What looks for lost, doubled, leaked and disordered messages finds them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.integration.isolation import Observation, Sent, disordered, doubled, faults, leaked, lost

BOTS = ("ALPHA", "BETA", "GAMMA")
SOME = Observation(
    sent=[Sent(f"{bot}-{number}", "@ann", bot) for bot in BOTS for number in range(4)],
    got={bot: [f"{bot}-{number}" for number in range(4)] for bot in BOTS},
)


def changed(bot: str, ids: Sequence[str]) -> Observation:
    """The good observation, but for one bot."""
    return Observation(SOME.sent, {**SOME.got, bot: ids})


def test_a_good_observation_has_no_fault() -> None:
    assert faults(SOME) == {}


def test_a_message_that_did_not_come_is_found() -> None:
    assert faults(changed("BETA", ["BETA-0", "BETA-1", "BETA-3"])) == {"lost": ["BETA-2"]}


def test_a_message_that_came_twice_is_found() -> None:
    assert faults(changed("BETA", ["BETA-0", "BETA-1", "BETA-0", "BETA-2", "BETA-3"])) == {
        "doubled": ["BETA-0"]
    }


def test_two_messages_that_came_the_other_way_round_are_found() -> None:
    seen = changed("BETA", ["BETA-0", "BETA-2", "BETA-1", "BETA-3"])

    assert faults(seen) == {"disordered": [("BETA-2", "BETA-1")]}


def test_a_message_that_another_bot_sees_too_is_found() -> None:
    seen = changed("BETA", [*SOME.got["BETA"], "GAMMA-1"])

    assert faults(seen) == {"leaked": [("BETA", "GAMMA-1")]}


def test_a_message_that_another_bot_gets_instead_is_found_and_missed() -> None:
    got = {**SOME.got, "BETA": [*SOME.got["BETA"], "GAMMA-3"], "GAMMA": SOME.got["GAMMA"][:3]}

    assert faults(Observation(SOME.sent, got)) == {"lost": ["GAMMA-3"], "leaked": [("BETA", "GAMMA-3")]}


def test_a_message_that_nobody_sent_is_found() -> None:
    assert faults(changed("BETA", [*SOME.got["BETA"], "made-up"])) == {"leaked": [("BETA", "made-up")]}


def test_senders_and_priorities_may_overtake_each_other() -> None:
    sent = [
        Sent("slow", "@ann", "BETA", "P3"),
        Sent("urgent", "@ann", "BETA", "P0"),
        Sent("other", "GAMMA", "BETA"),
    ]

    assert faults(Observation(sent, {"BETA": ["urgent", "other", "slow"]})) == {}


@given(st.permutations(range(6)), st.integers(0, 5))
def test_whatever_order_is_seen_it_is_wrong_exactly_when_it_is_another(came: list[int], missing: int) -> None:
    sent = [Sent(str(number), "@ann", "BETA") for number in range(6)]
    seen = Observation(sent, {"BETA": [str(number) for number in came if number != missing]})

    assert lost(seen) == [str(missing)]
    assert not doubled(seen)
    assert not leaked(seen)
    in_order = [number for number in came if number != missing]
    assert bool(disordered(seen)) == (in_order != sorted(in_order))
