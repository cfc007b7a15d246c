"""Which command is begun next: what bots say and what others ask have places of their own.

So the end of an attempt does not wait behind a batch of a thousand submissions, nor the other way round.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from shared.contracts.naming import sender_kind
from shared.runtime.unfinished import Stored

BEGUN_MAX: Final = 256  # commands of a kind at a time: both together are what an atomic batch can carry
WAITING_MAX: Final = 1_024  # messages that were delivered and have no place yet; then no more are taken


class Row:
    """What waits for a place in the order it came, and how many places are taken."""

    def __init__(self) -> None:
        self.waiting: deque[Stored] = deque()
        self.begun = 0


class Places:
    """Begins what has come, as soon as there is a place for it."""

    def __init__(self, begin: Callable[[Stored], None]) -> None:
        self._begin = begin
        self._bots = Row()
        self._others = Row()

    @property
    def full(self) -> bool:
        """Whether nothing more should be taken from the queue now."""
        return len(self._bots.waiting) + len(self._others.waiting) >= WAITING_MAX

    def add(self, stored: Stored) -> None:
        """It came; perhaps it begins at once."""
        row = self._row(stored)
        row.waiting.append(stored)
        self._fill(row)

    def free(self, stored: Stored) -> None:
        """It is worked on no more."""
        row = self._row(stored)
        row.begun -= len(stored.items)
        self._fill(row)

    def close(self) -> list[Stored]:
        """Begin nothing more; what was never begun."""
        left = [*self._bots.waiting, *self._others.waiting]
        self._bots.waiting.clear()
        self._others.waiting.clear()
        return left

    def _fill(self, row: Row) -> None:
        while row.waiting and row.begun < BEGUN_MAX:
            stored = row.waiting.popleft()
            row.begun += len(stored.items)
            self._begin(stored)

    def _row(self, stored: Stored) -> Row:
        return self._bots if sender_kind(stored.sender) == "bot" else self._others
