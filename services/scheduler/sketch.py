"""The last values of something, and the place of a value among them. Bounded; none is too large for it."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Final

KEPT_MAX: Final = 256
NOBODY_KNOWS: Final = 0.5
ALIKE: Final = 1e-6  # so much averaging may change of a value that is always the same


class Sketch:
    """The newest values, sorted."""

    def __init__(self, values: Iterable[float] = (), kept_max: int = KEPT_MAX) -> None:
        self._newest = deque(values, maxlen=kept_max)
        self._sorted = sorted(self._newest)

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: float) -> None:
        """One more; the oldest goes when there are too many."""
        if len(self._newest) == self._newest.maxlen:
            del self._sorted[bisect_left(self._sorted, self._newest[0])]
        self._newest.append(value)
        insort(self._sorted, value)

    def share_above(self, value: float) -> float:
        """The share of the values that are larger, and half of those that are equal; 0.5 if there is none."""
        count = len(self._sorted)
        if not count:
            return NOBODY_KNOWS
        below = bisect_left(self._sorted, value * (1 - ALIKE))
        upto = bisect_right(self._sorted, value * (1 + ALIKE))
        return (2 * count - below - upto) / (2 * count)

    def quantile(self, share: float) -> float:
        """The value at this share, the smallest one at 0."""
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def values(self) -> list[float]:
        """All, the oldest first."""
        return list(self._newest)
