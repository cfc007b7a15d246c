"""How often a key may ask: a fixed window of a minute for each key, begun by its first request."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

WINDOW_S: Final = 60.0
KEYS_MAX: Final = 10_000  # windows kept; when there are more, those that are over are dropped


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still do in this window. `allowed`: whether this request is within it."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the caller is told about it."""
        return (
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_s),
        )


@dataclass(slots=True)
class _Window:
    began: float
    used: int = 0


class Limits:
    """Counts the requests of each key that has a limit."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._windows: dict[str, _Window] = {}

    def take(self, key_id: str, per_minute: int) -> Allowance:
        """Count one request; a refused one does not count."""
        now = self._monotonic()
        window = self._windows.get(key_id)
        if window is None or now - window.began >= WINDOW_S:
            self._drop_old(now)
            window = self._windows[key_id] = _Window(now)
        allowed = window.used < per_minute
        window.used += allowed
        return Allowance(
            allowed=allowed,
            limit=per_minute,
            remaining=max(0, per_minute - window.used),
            reset_s=max(1, ceil(window.began + WINDOW_S - now)),
        )

    def _drop_old(self, now: float) -> None:
        if len(self._windows) >= KEYS_MAX:
            over = [key for key, window in self._windows.items() if now - window.began >= WINDOW_S]
            for key in over:
                del self._windows[key]
