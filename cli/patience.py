"""Patience with a hive that is away: a broker or a service that was killed is back within seconds."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from cli.failure import Exit, Failure
from shared.runtime import clock

T = TypeVar("T")

AWAY_FOR_S: Final = 30.0
AGAIN_AFTER_S: Final = 0.5


class Patience:
    """How long it has been away in one go. Only for what may be asked again without doing it twice."""

    def __init__(self, within_s: float = AWAY_FOR_S) -> None:
        self._within_s = within_s
        self._since: float | None = None

    def answered(self) -> None:
        """It is there."""
        self._since = None

    def bear(self, failure: Failure) -> None:
        """Let a moment pass; raises the failure if it is of another kind, or lasts too long."""
        now = clock.monotonic()
        if self._since is None:
            self._since = now
        if failure.exit_code != Exit.UNAVAILABLE or now + AGAIN_AFTER_S > self._since + self._within_s:
            raise failure
        time.sleep(AGAIN_AFTER_S)


def patiently(ask: Callable[[], T], within_s: float = AWAY_FOR_S) -> T:
    """What is answered; asked again while nobody can answer."""
    patience = Patience(within_s)
    while True:
        try:
            return ask()
        except Failure as failure:
            patience.bear(failure)
