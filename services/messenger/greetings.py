"""Which bots are to be asked for a Hello, and when: at once, after 1 s, after 3 s, then every 30 s."""

from heapq import heappop, heappush
from typing import Final

from shared.contracts.words import BotId

AFTER_S: Final = (0.0, 1.0, 3.0)
EVERY_S: Final = 30.0
ABSENT_AFTER_S: Final = 10.0


class Greetings:
    """A schedule for each bot that is to be greeted, until it has said Hello or need not any more."""

    def __init__(self) -> None:
        self._since: dict[BotId, float] = {}
        self._next: dict[BotId, tuple[float, int]] = {}
        self._due: list[tuple[float, BotId]] = []

    def want(self, bot_id: BotId, mono: float) -> None:
        """From now on; a schedule that has begun goes on."""
        if bot_id not in self._since:
            self._since[bot_id] = mono
            self._plan(bot_id, mono, 0)

    def drop(self, bot_id: BotId) -> None:
        """It has said Hello, or nothing is to be said to it."""
        self._since.pop(bot_id, None)
        self._next.pop(bot_id, None)

    def clear(self) -> None:
        """Every schedule is to begin anew."""
        self._since.clear()
        self._next.clear()
        self._due.clear()

    def due(self, mono: float) -> list[BotId]:
        """Whom to greet now."""
        found: list[BotId] = []
        while self._due and self._due[0][0] <= mono:
            at, bot_id = heappop(self._due)
            planned = self._next.get(bot_id)
            if planned is None or planned[0] != at:
                continue
            found.append(bot_id)
            self._plan(bot_id, mono, planned[1] + 1)
        return found

    def is_absent(self, bot_id: BotId, mono: float) -> bool:
        """Whether it was greeted for so long in vain that it cannot be there."""
        since = self._since.get(bot_id)
        return since is not None and mono - since >= ABSENT_AFTER_S

    def _plan(self, bot_id: BotId, mono: float, times: int) -> None:
        since = self._since[bot_id]
        at = since + AFTER_S[times] if times < len(AFTER_S) else mono + EVERY_S
        self._next[bot_id] = (at, times)
        heappush(self._due, (at, bot_id))
