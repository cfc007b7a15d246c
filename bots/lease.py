"""What a bot may believe about its right to work, from the answers to its heartbeats alone.

The moment a heartbeat was *sent* counts, not when its answer came: the owner heard of the bot no earlier than
that, and so cannot declare it silent before BOT_IS_SILENT_AFTER from then.
"""

from collections.abc import Iterable
from typing import Final

from shared.contracts.words import BOT_STOPS_ITSELF_AFTER

LASTS_S: Final = BOT_STOPS_ITSELF_AFTER.total_seconds()
TOKENS_REMEMBERED: Final = 10_000


class Lease:
    """Held from the first answer on, until no newer one came for LASTS_S."""

    def __init__(self) -> None:
        self._proven_at: float | None = None

    def prove(self, sent_at: float) -> None:
        """A heartbeat that was sent then was answered."""
        if self._proven_at is None or sent_at > self._proven_at:
            self._proven_at = sent_at

    def ends_at(self) -> float | None:
        """When the bot must have stopped, on its monotonic clock; None before the first answer."""
        return None if self._proven_at is None else self._proven_at + LASTS_S

    def holds(self, now: float) -> bool:
        """Whether the bot may work."""
        ends_at = self.ends_at()
        return ends_at is not None and now < ends_at


class Seen:
    """The tokens of the latest assignments: one that comes again is no new work."""

    def __init__(self, remembered: int = TOKENS_REMEMBERED) -> None:
        self._remembered = remembered
        self._tokens: dict[int, None] = {}

    def is_new(self, token: int) -> bool:
        """Whether it comes for the first time; asked again, it does not."""
        if token in self._tokens:
            return False
        self._tokens[token] = None
        if len(self._tokens) > self._remembered:
            del self._tokens[next(iter(self._tokens))]
        return True


def lost(named: Iterable[int], still_held: Iterable[int]) -> frozenset[int]:
    """The tokens that a heartbeat named and its answer did not."""
    return frozenset(named) - frozenset(still_held)
