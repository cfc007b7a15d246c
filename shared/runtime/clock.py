"""The two clocks: what time it is, and how much time passed."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place it comes from


def monotonic() -> float:
    """Seconds that only grow: for measuring how long something takes, and for leases of our own."""
    return time.monotonic()
