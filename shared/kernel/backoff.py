"""How long to wait before trying again: doubling, capped, spread out, and the same each time it is asked."""

import zlib
from datetime import timedelta
from typing import Final

_DOUBLINGS_MAX: Final = 32  # beyond it the cap has long won, and the power would only grow


def backoff(first_s: float, max_s: float, times: int) -> timedelta:
    """The wait after the `times`-th failure in a row: `first_s`, twice that, and so on up to `max_s`."""
    assert times >= 1, times
    return timedelta(seconds=min(max_s, first_s * 2.0 ** min(times - 1, _DOUBLINGS_MAX)))


def spread(wait: timedelta, *of: str) -> timedelta:
    """Between half and the whole of it, so that what failed together does not come back together.

    Chance would make the decision differ when it is taken again; the checksum of what waits does not.
    """
    return wait * (0.5 + zlib.crc32(":".join(of).encode()) / 0xFFFFFFFF / 2)
