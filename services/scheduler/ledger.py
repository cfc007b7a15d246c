"""What is counted of one bot at one type of task, and how recent ends weigh more than old ones."""

from datetime import datetime
from math import exp, log, sqrt
from typing import Final

import msgspec

SUCCESS_WEIGHT: Final = 0.6  # of the quality by which the trend is told
SPEED_WEIGHT: Final = 0.4

DISCOUNT: Final = 0.98  # of each count, with each new one: the last fifty or so decide
TREND_SAMPLES_MIN: Final = 10
TREND_MIN: Final = 0.1
"""By so much the short average must differ from the long one, and by twice what chance alone would do."""

CHANCE: Final = 2.0
SHORTEST_S: Final = 1e-6
PRIOR_DEVIATION: Final = sqrt(1 / 12)  # of Beta(1, 1): nothing is known


class Ended(msgspec.Struct, frozen=True):
    """How an attempt ended. `run_s`: how long it ran, where it completed. `speed`: 0 to 1 among its like."""

    success: bool
    at: datetime
    run_s: float | None = None
    speed: float = 0.5
    tokens: int = 0
    cost_usd: float = 0.0


class Ledger(msgspec.Struct, kw_only=True):
    """`success`, `run_s`, `tokens`, `cost_usd` are moving averages, `log_run` that of the logarithms.

    `successes` and `failures` are discounted counts. `short`, `long` and `variance` are of the quality.
    """

    last_at: datetime
    sequence: int = 0
    samples: int = 0
    runs: int = 0
    success: float = 0.0
    successes: float = 0.0
    failures: float = 0.0
    run_s: float = 0.0
    log_run: float = 0.0
    tokens: float = 0.0
    cost_usd: float = 0.0
    short: float = 0.0
    long: float = 0.0
    variance: float = 0.0

    def count(self, ended: Ended, sequence: int, alpha: float) -> None:
        """One more end. The first ones weigh alike, until that is less than `alpha` each."""
        self.sequence, self.last_at = sequence, ended.at
        self.samples += 1
        step = max(alpha, 1 / self.samples)
        won = 1.0 if ended.success else 0.0
        self.success += step * (won - self.success)
        self.successes = self.successes * DISCOUNT + won
        self.failures = self.failures * DISCOUNT + 1.0 - won
        self.tokens += step * (ended.tokens - self.tokens)
        self.cost_usd += step * (ended.cost_usd - self.cost_usd)
        if ended.run_s is not None:
            self.runs += 1
            step = max(alpha, 1 / self.runs)
            self.run_s += step * (ended.run_s - self.run_s)
            self.log_run += step * (log(max(ended.run_s, SHORTEST_S)) - self.log_run)
        self._compare(won * (SUCCESS_WEIGHT + SPEED_WEIGHT * ended.speed), alpha)

    def _compare(self, quality: float, alpha: float) -> None:
        first = 1 / self.samples
        self.short += max(_short(alpha), first) * (quality - self.short)
        step, difference = max(alpha / 2, first), quality - self.long
        self.long += step * difference
        self.variance = (1 - step) * (self.variance + step * difference * difference)

    @property
    def typical_run_s(self) -> float:
        """How long it usually runs: one run of a thousand times as long does not spoil it."""
        return exp(self.log_run)

    @property
    def confidence(self) -> float:
        """0 where nothing is known of its success, towards 1 as the Beta distribution of it grows narrow."""
        a, b = 1 + self.successes, 1 + self.failures
        deviation = sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        return 1 - min(1.0, deviation / PRIOR_DEVIATION)

    def trend(self, alpha: float) -> str:
        """`improving` or `declining` where the short average says so beyond chance, else `steady`."""
        if self.samples < TREND_SAMPLES_MIN:
            return "steady"
        short = _short(alpha)
        threshold = max(TREND_MIN, CHANCE * sqrt(self.variance * short / (2 - short)))
        difference = self.short - self.long
        if abs(difference) <= threshold:
            return "steady"
        return "improving" if difference > 0 else "declining"


def _short(alpha: float) -> float:
    """The short average looks back half as far as the others, the long one twice as far."""
    return min(1.0, 2 * alpha)
