"""When a bot beats."""

from collections import Counter
from itertools import pairwise
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from bots.pace import INTERVAL_S, MOMENTS, first_beat, next_beat

MOMENT_S: Final = INTERVAL_S / MOMENTS
A_HAIR: Final = 1e-6
nows = st.floats(min_value=0, max_value=1e7)
chances = st.floats(min_value=0.5, max_value=1.0)


def off_the_moments(at: float) -> float:
    return abs(at / MOMENT_S - round(at / MOMENT_S))


@given(nows, chances)
def test_the_first_is_at_one_of_the_moments_within_a_second(now: float, chance: float) -> None:
    first = first_beat(now, lambda most: most * chance)

    assert now - A_HAIR <= first <= now + INTERVAL_S + MOMENT_S + A_HAIR
    assert off_the_moments(first) < 1e-3


@given(nows, chances, st.lists(st.floats(min_value=-0.002, max_value=0.04), min_size=1, max_size=100))
def test_the_next_is_a_second_later_however_early_or_late_the_timer_was(
    now: float, chance: float, late: list[float]
) -> None:
    beats = [first_beat(now, lambda most: most * chance)]
    for by in late:
        beats.append(next_beat(beats[-1], beats[-1] + by))

    assert all(abs(after - before - INTERVAL_S) < A_HAIR for before, after in pairwise(beats))


@given(nows, st.floats(min_value=1.0, max_value=1e5))
def test_what_was_missed_is_not_made_up_for_and_the_moment_stays(now: float, stalled: float) -> None:
    last = first_beat(now, lambda most: most)

    after = next_beat(last, last + stalled)

    assert last + stalled - A_HAIR <= after <= last + stalled + INTERVAL_S + A_HAIR
    assert off_the_moments((after - last) / INTERVAL_S * MOMENT_S) < 1e-3


def test_bots_that_start_together_spread_over_all_moments() -> None:
    def beats(chance: float) -> float:
        return first_beat(1000.0, lambda most: most * chance)

    spread = Counter(round(beats(0.5 + each / 400) / MOMENT_S) % MOMENTS for each in range(200))

    assert len(spread) == MOMENTS
    assert max(spread.values()) <= 2 * 200 / MOMENTS
