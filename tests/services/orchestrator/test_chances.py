"""The chances of being the best: as Thompson sampling would take them, without a draw."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.chances import Posterior, chances_of_being_best


def drawn(known: list[Posterior], number: int, seed: int = 1) -> list[float]:
    """What Thompson sampling takes, by drawing."""
    chance = Random(seed)
    taken = [0] * len(known)
    for _ in range(number):
        worth = [
            each.factor
            * (each.success_weight * chance.betavariate(1 + each.successes, 1 + each.failures) + each.rest)
            for each in known
        ]
        taken[worth.index(max(worth))] += 1
    return [count / number for count in taken]


@pytest.mark.parametrize(
    "known",
    [
        [Posterior(9, 1, 0.6, 0.2), Posterior(7, 3, 0.6, 0.2), Posterior(5, 5, 0.6, 0.2)],
        [Posterior(0, 0, 0.6, 0.2), Posterior(40, 10, 0.6, 0.2)],
        [Posterior(0, 0, 0.6, 0.2)] * 4,
        [Posterior(8, 2, 0.6, 0.1), Posterior(8, 2, 0.6, 0.3), Posterior(8, 2, 0.6, 0.3, 0.5)],
    ],
)
def test_they_are_those_of_thompson_sampling(known: list[Posterior]) -> None:
    computed = chances_of_being_best(known)
    assert computed == pytest.approx(drawn(known, 20_000), abs=0.02)


POSTERIORS = st.builds(
    Posterior,
    st.floats(0, 500),
    st.floats(0, 500),
    st.just(0.6),
    st.floats(0, 0.4),
    st.sampled_from([1.0, 0.5]),
)


@given(st.lists(POSTERIORS, min_size=1, max_size=16))
def test_together_they_are_one_whatever_is_known(known: list[Posterior]) -> None:
    computed = chances_of_being_best(known)
    assert sum(computed) == pytest.approx(1.0)
    assert all(0 <= each <= 1 for each in computed)


def test_nobody_and_one_alone() -> None:
    assert chances_of_being_best([]) == []
    assert chances_of_being_best([Posterior(1, 9, 0.6, 0.2)]) == [1.0]
