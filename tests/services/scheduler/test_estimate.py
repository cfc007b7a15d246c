"""What-if on traffic whose truth is known: the intervals cover it, and little data claims nothing."""

from math import exp
from random import Random
from typing import NamedTuple

import pytest

from services.scheduler.estimate import EFFECTIVE_MIN, USED_MIN, estimate
from services.scheduler.records import Record, Result, Trial
from shared.contracts.scheduler.queries import Interval
from shared.contracts.words import BotId
from tests.support.scenario import NOON

SEEDS = 100
COVERED = 90
DECISIONS = 900
EXPLORED = 0.6


class Nature(NamedTuple):
    """How a bot really is."""

    failure: float
    cost_usd: float
    spread: float  # of the logarithm of its run time, around one second


BOTS = {
    "quick": Nature(failure=0.10, cost_usd=0.9, spread=0.4),
    "cheap": Nature(failure=0.25, cost_usd=0.1, spread=1.0),
    "sure": Nature(failure=0.02, cost_usd=0.5, spread=0.7),
}
NAMES = tuple(BOTS)
NORMAL_95 = 1.6448536


def traffic(seed: int, target: str, decisions: int = DECISIONS, explored: float = EXPLORED) -> list[Trial]:
    """Mostly `quick`, now and then any of the three; the policy to be judged would always take `target`."""
    chance = Random(seed)
    trials = []
    for _ in range(decisions):
        name = chance.choice(NAMES) if chance.random() < explored else "quick"
        propensity = explored / len(NAMES) + (1 - explored if name == "quick" else 0)
        nature = BOTS[name]
        failed = chance.random() < nature.failure
        run_s = None if failed else chance.lognormvariate(0, nature.spread)
        cost_usd = nature.cost_usd * chance.uniform(0.5, 1.5)
        chances: dict[str, float | None] = {"judged": float(name == target), "random": 1 / len(NAMES)}
        record = Record(BotId(name), NOON, len(NAMES), propensity, chances)
        trials.append(Trial(record, Result(failed, cost_usd, run_s)))
    return trials


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


@pytest.mark.simulation
@pytest.mark.parametrize("target", NAMES)
def test_the_intervals_cover_the_truth(target: str) -> None:
    covered = {"failures": 0, "cost": 0, "p95": 0}
    nature = BOTS[target]
    p95 = exp(NORMAL_95 * nature.spread)
    for seed in range(SEEDS):
        answer = estimate("judged", traffic(seed, target), Random(SEEDS + seed))
        assert answer.estimate is not None, answer.detail
        covered["failures"] += covers(answer.estimate.failure_share, nature.failure)
        covered["cost"] += covers(answer.estimate.cost_usd, nature.cost_usd)
        covered["p95"] += covers(answer.estimate.run_s_p95, p95)
    assert {what: count for what, count in covered.items() if count < COVERED} == {}


@pytest.mark.simulation
def test_the_intervals_cover_the_truth_of_choosing_at_random() -> None:
    failures = sum(nature.failure for nature in BOTS.values()) / len(BOTS)
    cost = sum(nature.cost_usd for nature in BOTS.values()) / len(BOTS)
    covered = [0, 0]
    for seed in range(SEEDS):
        found = estimate("random", traffic(seed, "sure"), Random(SEEDS + seed)).estimate
        assert found is not None
        covered[0] += covers(found.failure_share, failures)
        covered[1] += covers(found.cost_usd, cost)
    assert min(covered) >= COVERED


def test_what_happened_is_told_beside_it_over_the_same_decisions() -> None:
    trials = traffic(1, "cheap")
    actual = estimate("judged", trials, Random(1)).actual
    assert actual is not None
    mean = sum(trial.result.cost_usd for trial in trials) / len(trials)
    assert actual.cost_usd.estimate == pytest.approx(mean, abs=1e-6)
    assert actual.cost_usd.high - actual.cost_usd.low < 0.1


def test_the_same_question_has_the_same_answer() -> None:
    trials = traffic(3, "cheap")
    assert estimate("judged", trials, Random(5)) == estimate("judged", trials, Random(5))


def test_little_data_claims_nothing() -> None:
    few = estimate("judged", traffic(1, "quick", USED_MIN - 1), Random(1))
    assert (few.estimate, few.used) == (None, USED_MIN - 1)
    assert few.detail == f"not enough data: {USED_MIN - 1} usable decisions, {USED_MIN} are needed"

    rare = estimate("judged", traffic(1, "cheap", 400, explored=0.1), Random(1))
    assert rare.estimate is None
    assert rare.effective < EFFECTIVE_MIN
    assert rare.detail.startswith("not enough data")

    never = [each for each in traffic(1, "cheap") if each.record.bot != "cheap"]
    untried = estimate("judged", never, Random(1))
    assert (untried.estimate, untried.effective) == (None, 0)
    assert "only 0% of what this policy would have done was ever tried" in untried.detail


def test_what_was_not_left_to_chance_is_left_out_and_counted() -> None:
    result = Result(failed=False, cost_usd=0.0, run_s=1.0)

    def trial(propensity: float | None, candidates: int, chance: float | None) -> Trial:
        return Trial(Record(BotId("quick"), NOON, candidates, propensity, {"judged": chance}), result)

    trials = [
        trial(None, 3, 1.0),  # of before chances were recorded
        trial(1.0, 3, 1.0),  # certain, where there were others
        trial(0.5, 3, None),  # nothing was known of anybody
        trial(1.0, 1, 1.0),  # nobody else was there
        trial(0.5, 3, 1.0),
    ]
    answer = estimate("judged", trials, Random(1))
    assert (answer.without_chance, answer.without_opinion, answer.used) == (2, 1, 2)


def test_a_failure_that_was_never_seen_is_not_ruled_out() -> None:
    record = Record(BotId("quick"), NOON, 2, 0.5, {"judged": 1.0})
    trials = [Trial(record, Result(failed=False, cost_usd=0.0, run_s=1.0))] * 300
    answer = estimate("judged", trials, Random(1)).estimate
    assert answer is not None
    assert (answer.failure_share.low, answer.failure_share.estimate) == (0, 0)
    assert 0.01 < answer.failure_share.high < 0.02
