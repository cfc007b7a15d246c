"""How probable it is that each of some bots is the best one: Thompson's chances, computed and not drawn.

Thompson sampling draws each bot's worth from what is known of it, and takes the best draw. The chance with
which it takes a bot is the probability that this bot is the best; the integral of that over a grid is exact
enough, has no noise, and can stand in a record of why a bot was chosen.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Final, NamedTuple

CELLS: Final = 64  # of the grid, from 0 to 1
_LEAST: Final = 1e-12
NEVER: Final = -1e300  # the logarithm of a density where there is none


class Posterior(NamedTuple):
    """What is known of a bot's worth: `factor` x (`success_weight` x a Beta variable + `rest`)."""

    successes: float
    failures: float
    success_weight: float
    rest: float
    factor: float = 1.0

    @property
    def mean(self) -> float:
        """Its expected worth."""
        a, b = 1 + self.successes, 1 + self.failures
        return self.factor * (self.success_weight * a / (a + b) + self.rest)

    @property
    def hope(self) -> float:
        """What it may well be worth: its mean, and two deviations more."""
        a, b = 1 + self.successes, 1 + self.failures
        deviation = sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        return self.mean + 2 * self.factor * self.success_weight * deviation


def chances_of_being_best(known: Sequence[Posterior]) -> list[float]:
    """For each the probability that its worth is the greatest; together 1."""
    if len(known) <= 1:
        return [1.0] * len(known)
    cells = [_cells(each) for each in known]
    below: list[list[float]] = []  # the logarithm of the probability of being worth less, cell by cell
    for shares in cells:
        row, total = [], 0.0
        for share in shares:
            row.append(log(max(_LEAST, total + share / 2)))
            total += share
        below.append(row)
    all_below = [sum(column) for column in zip(*below, strict=True)]
    best = [
        sum(
            share * exp(whole - own)
            for share, whole, own in zip(shares, all_below, row, strict=True)
            if share > _LEAST
        )
        for shares, row in zip(cells, below, strict=True)
    ]
    total = sum(best)
    return [each / total for each in best]


def _cells(known: Posterior) -> list[float]:
    """How its worth is spread over the grid."""
    a, b = known.successes, known.failures
    densities: list[float] = []
    for cell in range(CELLS):
        theta = ((cell + 0.5) / CELLS / known.factor - known.rest) / known.success_weight
        inside = 0.0 < theta < 1.0
        densities.append(a * log(theta) + b * log(1 - theta) if inside else NEVER)
    highest = max(densities)
    if highest == NEVER:  # narrower than a cell, or off the grid: all of it in the cell of its mean
        here = min(CELLS - 1, max(0, int(known.mean * CELLS)))
        return [float(cell == here) for cell in range(CELLS)]
    shares = [exp(each - highest) for each in densities]
    total = sum(shares)
    return [each / total for each in shares]
