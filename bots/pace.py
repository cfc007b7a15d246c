"""When a bot beats: once a second, in one of the few moments that all bots of a machine have in common.

Who beats together wakes broker and owner once instead of twenty times. Which moment is its own is chance, and
stays: no event makes all bots beat at once from then on.
"""

import math
from collections.abc import Callable
from typing import Final

from shared.contracts.words import HEARTBEAT_INTERVAL

INTERVAL_S: Final = HEARTBEAT_INTERVAL.total_seconds()
MOMENTS: Final = 10
"""In each second; two hundred bots are twenty at a time, for some five milliseconds."""


def first_beat(now: float, jittered: Callable[[float], float]) -> float:
    """The first of its moments, within a second from now; `jittered` gives half to all of what it gets."""
    at = now + jittered(2 * INTERVAL_S) - INTERVAL_S
    return math.ceil(at * MOMENTS / INTERVAL_S) * INTERVAL_S / MOMENTS


def next_beat(last: float, now: float) -> float:
    """The next of its moments; what was missed is not made up for."""
    missed = max(0.0, now - last)
    return last + INTERVAL_S * (1 + missed // INTERVAL_S)
