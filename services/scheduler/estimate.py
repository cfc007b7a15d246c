"""How recorded decisions would have ended under another policy.

An attempt counts by the chance that the other policy would have taken the same bot, over the chance that it
was taken (self-normalised inverse propensity). Nothing is assumed of attempts that nobody made; where too
few were made that the other policy would have made, nothing is claimed. Intervals are percentiles of a
bootstrap, but never narrower than what as many decisions as the estimate is worth allow (Wilson's for a
share, Woodruff's for a quantile): a bootstrap alone trusts the few largest values too much.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from operator import mul
from typing import Final, NamedTuple, Protocol

from services.scheduler.records import Record, Trial
from shared.contracts.scheduler.queries import Interval, Outcomes

RESAMPLES: Final = 200
USED_MAX: Final = 10_000  # the newest: so that an answer takes a second or two
USED_MIN: Final = 200
EFFECTIVE_MIN: Final = 100.0
COVERED_MIN: Final = 0.7
"""The mean weight is 1 where every choice of the other policy was made now and then; so much must be left."""

SIDE: Final = 0.025  # on either side of the interval
NORMAL: Final = 1.96
TAIL: Final = 0.95
CERTAIN: Final = 1 - 1e-9


class Chance(Protocol):
    """Where the resamples come from."""

    def choices(self, population: Sequence[int], *, k: int) -> list[int]:
        """So many of them, each as probable."""
        ...


class Estimate(NamedTuple):
    """What can be said; `detail` says why it is not more."""

    used: int
    without_chance: int
    without_opinion: int
    effective: float
    actual: Outcomes | None
    estimate: Outcomes | None
    detail: str


class Weighed(NamedTuple):
    """A result and its weight."""

    weight: float
    failed: float
    cost_usd: float
    run_s: float | None


def estimate(policy: str, trials: Sequence[Trial], chance: Chance) -> Estimate:
    """What another policy would have come to; the newest trials first."""
    weighed: list[Weighed] = []
    without_chance = without_opinion = 0
    for trial in trials:
        record = trial.record
        if not _by_chance(record):
            without_chance += 1
        elif (taken := record.chances.get(policy)) is None:
            without_opinion += 1
        elif len(weighed) < USED_MAX:
            result = trial.result
            weight = taken / (record.propensity or 1.0)
            weighed.append(Weighed(weight, float(result.failed), result.cost_usd, result.run_s))
    total = sum(each.weight for each in weighed)
    effective = total**2 / squares if (squares := sum(each.weight**2 for each in weighed)) else 0.0
    detail = _what_is_missing(len(weighed), effective, total)
    actual = _outcomes([each._replace(weight=1.0) for each in weighed], chance) if weighed else None
    return Estimate(
        used=len(weighed),
        without_chance=without_chance,
        without_opinion=without_opinion,
        effective=effective,
        actual=actual,
        estimate=None if detail else _outcomes([each for each in weighed if each.weight], chance),
        detail=detail or f"{len(weighed)} decisions, worth {effective:.0f}",
    )


def _by_chance(record: Record) -> bool:
    """Whether the choice is known to have been open, or was none."""
    if record.propensity is None or not 0 < record.propensity <= 1:
        return False
    return record.propensity < CERTAIN or record.candidates == 1


def _what_is_missing(used: int, effective: float, total: float) -> str:
    """Why nothing can be said; empty if something can."""
    if used < USED_MIN:
        return f"not enough data: {used} usable decisions, {USED_MIN} are needed"
    if total < COVERED_MIN * used:
        return (
            f"not enough data: only {total / used:.0%} of what this policy would have done was ever tried, "
            f"{COVERED_MIN:.0%} are needed"
        )
    if effective < EFFECTIVE_MIN:
        return f"not enough data: worth {effective:.0f} decisions, {EFFECTIVE_MIN:.0f} are needed"
    return ""


class _Columns:
    """The same results column by column, those that completed first and by how long they ran."""

    def __init__(self, weighed: Sequence[Weighed]) -> None:
        ran = sorted((each.run_s, each) for each in weighed if each.run_s is not None)
        order = [each for _, each in ran] + [each for each in weighed if each.run_s is None]
        self.weights = [each.weight for each in order]
        self.failed = [each.failed for each in order]
        self.costs = [each.cost_usd for each in order]
        self.runs = [run_s for run_s, _ in ran]

    def quantile(self, weights: Sequence[float], share: float = TAIL) -> float | None:
        """The run time that this share of the completed ones does not exceed."""
        sums = list(accumulate(weights[: len(self.runs)]))
        if not sums or not sums[-1]:
            return None
        return self.runs[min(bisect_left(sums, share * sums[-1]), len(self.runs) - 1)]


def _outcomes(weighed: Sequence[Weighed], chance: Chance) -> Outcomes:
    columns = _Columns(weighed)
    places = range(len(weighed))
    tails, costs, failures = [], [], []
    for _ in range(RESAMPLES):
        counts = [0] * len(weighed)
        for place in chance.choices(places, k=len(weighed)):
            counts[place] += 1
        weights = list(map(mul, columns.weights, counts))
        total = sum(weights)
        costs.append(sum(map(mul, weights, columns.costs)) / total)
        failures.append(sum(map(mul, weights, columns.failed)) / total)
        tail = columns.quantile(weights)
        if tail is not None:
            tails.append(tail)
    total = sum(columns.weights)
    return Outcomes(
        run_s_p95=_tail(columns, tails),
        cost_usd=_interval(sum(map(mul, columns.weights, columns.costs)) / total, costs),
        failure_share=_share(
            sum(map(mul, columns.weights, columns.failed)) / total, failures, _effective(columns.weights)
        ),
    )


def _effective(weights: Sequence[float]) -> float:
    squares = sum(weight * weight for weight in weights)
    return sum(weights) ** 2 / squares if squares else 0.0


def _interval(value: float, resampled: Sequence[float]) -> Interval:
    ordered = sorted(resampled)
    cut = max(0, int(SIDE * len(ordered)) - 1)
    low, high = ordered[cut], ordered[-1 - cut]
    return Interval(estimate=round(value, 6), low=round(min(low, value), 6), high=round(max(high, value), 6))


def _tail(columns: _Columns, resampled: Sequence[float]) -> Interval | None:
    """None where too few completed."""
    weights = columns.weights
    count = _effective(weights[: len(columns.runs)])
    value = columns.quantile(weights)
    if value is None or count < EFFECTIVE_MIN:
        return None
    found, half = _interval(value, resampled), NORMAL * sqrt(TAIL * (1 - TAIL) / count)
    low = columns.quantile(weights, TAIL - half) or value
    high = columns.quantile(weights, min(1.0, TAIL + half)) or value
    return Interval(
        estimate=found.estimate, low=round(min(found.low, low), 6), high=round(max(found.high, high), 6)
    )


def _share(value: float, resampled: Sequence[float], count: float) -> Interval:
    """A bootstrap of a share that never happened would claim that it never does."""
    found = _interval(value, resampled)
    middle = (value + NORMAL**2 / (2 * count)) / (1 + NORMAL**2 / count)
    half = sqrt(value * (1 - value) / count + NORMAL**2 / (4 * count**2)) * NORMAL / (1 + NORMAL**2 / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(
        estimate=found.estimate, low=round(min(found.low, low), 6), high=round(max(found.high, high), 6)
    )
