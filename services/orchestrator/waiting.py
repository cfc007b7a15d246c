"""The tasks that could start now if a bot were free, in the order in which they should.

Lines by requirements; in each, the better priority first, and within it the submitters in turns.

**How long a task can wait.** Every `ageing_s` of waiting lifts a task by one priority, up to P0. So a task of
priority Pk is at P0 after at most k x ageing_s, whatever else is submitted. If from then on m tasks of the
same submitter with the same requirements are older, and its key's share is s, it goes after
r = ceil((m + 1) / s) turns of its submitter. Until then every other submitter, for each kind of requirements
that the same bots serve, has at most r turns of as many tasks as its key's share says; and one who comes when
a turn is waited for stands behind it. How many tasks others have, and when they were submitted, does not
count: no key can make another's task starve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from math import ceil
from typing import Final, NamedTuple

from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.words import BotId, Priority, TaskId, TaskType

_LEVELS: Final = {priority: level for level, priority in enumerate(Priority)}
SHARE_DEFAULT: Final = 1
LEFT_OVER_MAX: Final = (
    1_000  # entries of those who wait no more, above as many as wait: then a line is tidied
)


class Wants(NamedTuple):
    """What a task requires of its bot. Tasks that want the same wait in the same lines."""

    type: TaskType
    engine: str | None
    bot: BotId | None
    pool: str | None


class Place(NamedTuple):
    """Where a task stands: smaller is sooner. `turn` is the number of its submitter's turn."""

    level: int
    turn: int
    since: float
    task_id: TaskId


def wants_of(order: TaskSubmitted) -> Wants:
    """What a task requires."""
    return Wants(order.type, order.engine, order.bot, order.pool)


def aged(level: int, since: float, now: float, ageing_s: float) -> int:
    """The priority that a task has by now: one better for each `ageing_s` it has waited."""
    return max(0, level - int(max(0.0, now - since) / ageing_s))


@dataclass(slots=True)
class _Spot:
    """One who waits. `serial` tells its entries from those of an earlier wait; `level` is the aged one."""

    task_id: TaskId
    submitter: str
    given: int
    since: float
    serial: int
    level: int


@dataclass(slots=True)
class _Turn:
    """A submitter's place among those who take turns, and how many tasks this turn still holds."""

    number: int
    left: int
    waiting: int = 0


class _Level:
    """Who waits at one aged priority: each submitter's own tasks by age, submitters by their turns."""

    __slots__ = ("order", "queues")

    def __init__(self) -> None:
        self.queues: dict[str, list[tuple[float, TaskId, int]]] = {}
        self.order: list[tuple[int, str]] = []

    def add(self, spot: _Spot, turn: int) -> None:
        queue = self.queues.get(spot.submitter)
        if queue is None:
            queue = self.queues[spot.submitter] = []
            heappush(self.order, (turn, spot.submitter))
        heappush(queue, (spot.since, spot.task_id, spot.serial))


class _Line:
    """All who want the same."""

    def __init__(self, ageing_s: float) -> None:
        self.spots: dict[TaskId, _Spot] = {}
        self.turns: dict[str, _Turn] = {}
        self.ageing_s = ageing_s
        self._levels = [_Level() for _ in _LEVELS]
        self._lifts: list[tuple[float, TaskId, int]] = []
        self._entries = 0

    def add(self, spot: _Spot) -> None:
        self.spots[spot.task_id] = spot
        self._enter(spot)

    def first(self, now: float, ageing_s: float) -> tuple[int, _Spot] | None:
        """Who is next, and when the turn began by which it is."""
        if ageing_s != self.ageing_s or self._entries > 2 * len(self.spots) + LEFT_OVER_MAX:
            self._rebuild(ageing_s)
        self._lift(now)
        for index, level in enumerate(self._levels):
            while level.order:
                told, submitter = level.order[0]
                spot = self._oldest(level.queues[submitter], index)
                if spot is None:
                    heappop(level.order)
                    del level.queues[submitter]
                elif (turn := self.turns[submitter].number) != told:
                    heapreplace(level.order, (turn, submitter))
                else:
                    return turn, spot
        return None

    def _oldest(self, queue: list[tuple[float, TaskId, int]], index: int) -> _Spot | None:
        while queue:
            _, task_id, serial = queue[0]
            spot = self.spots.get(task_id)
            if spot is not None and spot.serial == serial and spot.level == index:
                return spot
            heappop(queue)
            self._entries -= 1
        return None

    def _enter(self, spot: _Spot) -> None:
        self._levels[spot.level].add(spot, self.turns[spot.submitter].number)
        self._entries += 1
        if spot.level > 0:
            steps = spot.given - spot.level + 1
            heappush(self._lifts, (spot.since + steps * self.ageing_s, spot.task_id, spot.serial))

    def _lift(self, now: float) -> None:
        """Those who have waited long enough have a better priority from now on."""
        while self._lifts and self._lifts[0][0] <= now:
            _, task_id, serial = heappop(self._lifts)
            spot = self.spots.get(task_id)
            if spot is not None and spot.serial == serial:
                spot.level -= 1
                self._enter(spot)

    def _rebuild(self, ageing_s: float) -> None:
        """Everybody enters anew: the ageing was changed, or most entries are of those who wait no more."""
        self.ageing_s = ageing_s
        self._levels = [_Level() for _ in _LEVELS]
        self._lifts.clear()
        self._entries = 0
        for spot in self.spots.values():
            spot.level = spot.given
            self._enter(spot)


class WaitingLines:
    """Who is next for given requirements; `shares`: how many tasks a submitter's turn holds, if not one."""

    def __init__(self, shares: Mapping[str, int] | None = None) -> None:
        self.shares: Mapping[str, int] = shares or {}
        self._lines: dict[Wants, _Line] = {}
        self._where: dict[TaskId, Wants] = {}
        self._ageing_s = 60.0
        self._serial = 0
        self._turn = 0

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self._where

    def add(self, order: TaskSubmitted, since: float) -> None:
        """It waits since then; twice is once."""
        wants, level = wants_of(order), _LEVELS[order.priority]
        known = self._spot(order.task_id)
        if known is not None:
            if (self._where[order.task_id], known.given, known.since) == (wants, level, since):
                return
            self.remove(order.task_id)
        line = self._lines.get(wants)
        if line is None:
            line = self._lines[wants] = _Line(self._ageing_s)
        turn = line.turns.get(order.submitter)
        if turn is None:
            turn = line.turns[order.submitter] = self._next_turn(order.submitter)
        turn.waiting += 1
        self._serial += 1
        self._where[order.task_id] = wants
        line.add(_Spot(order.task_id, order.submitter, level, since, self._serial, level))

    def remove(self, task_id: TaskId) -> None:
        """It waits no more. Its entries are tidied when they come to the front."""
        wants = self._where.pop(task_id, None)
        if wants is None:
            return
        line = self._lines[wants]
        spot = line.spots.pop(task_id)
        turn = line.turns[spot.submitter]
        turn.waiting -= 1
        if turn.waiting == 0:
            del line.turns[spot.submitter]

    def take(self, task_id: TaskId) -> None:
        """It waits no more, since it is given to a bot: that was a part of its submitter's turn, or all."""
        spot = self._spot(task_id)
        if spot is not None:
            turn = self._lines[self._where[task_id]].turns[spot.submitter]
            turn.left -= 1
            if turn.left <= 0:
                after = self._next_turn(spot.submitter)
                turn.number, turn.left = after.number, after.left
        self.remove(task_id)

    def wanted(self) -> list[Wants]:
        """The requirements that someone waits with."""
        empty = [wants for wants, line in self._lines.items() if not line.spots]
        for wants in empty:
            del self._lines[wants]
        return list(self._lines)

    def count(self, wants: Wants) -> int:
        """How many wait with these requirements."""
        line = self._lines.get(wants)
        return 0 if line is None else len(line.spots)

    def first(self, wants: Wants, now: float, ageing_s: float) -> Place | None:
        """Who is next among those who want the same. O(log n), taken over all calls."""
        self._ageing_s = ageing_s
        line = self._lines.get(wants)
        found = None if line is None else line.first(now, ageing_s)
        if found is None:
            return None
        turn, spot = found
        return Place(spot.level, turn, spot.since, spot.task_id)

    def position(
        self, task_id: TaskId, now: float, ageing_s: float, competes: Callable[[Wants], bool]
    ) -> int | None:
        """Its number among all whom the same bots serve, if nothing comes and nobody ages."""
        own = self._spot(task_id)
        if own is None:
            return None
        wants = self._where[task_id]
        level = aged(own.given, own.since, now, ageing_s)
        turn = self._lines[wants].turns[own.submitter]
        older, before = 0, 0
        others: dict[tuple[Wants, str], int] = {}
        for other_wants, line in self._lines.items():
            if other_wants != wants and not competes(other_wants):
                continue
            for spot in line.spots.values():
                other = aged(spot.given, spot.since, now, ageing_s)
                if other < level:
                    before += 1
                elif other == level and (other_wants, spot.submitter) != (wants, own.submitter):
                    key = (other_wants, spot.submitter)
                    others[key] = others.get(key, 0) + 1
                elif other == level and (spot.since, spot.task_id) < (own.since, own.task_id):
                    older += 1
        turns = 1 if older < turn.left else 1 + ceil((older - turn.left + 1) / self._share(own.submitter))
        for (other_wants, submitter), count in others.items():
            theirs = self._lines[other_wants].turns[submitter]
            had = turns if theirs.number < turn.number else turns - 1
            if had > 0:
                before += min(count, theirs.left + (had - 1) * self._share(submitter))
        return before + older + 1

    def _spot(self, task_id: TaskId) -> _Spot | None:
        wants = self._where.get(task_id)
        return None if wants is None else self._lines[wants].spots[task_id]

    def _share(self, submitter: str) -> int:
        return max(1, self.shares.get(submitter, SHARE_DEFAULT))

    def _next_turn(self, submitter: str) -> _Turn:
        """Behind everybody who takes turns now."""
        self._turn += 1
        return _Turn(self._turn, self._share(submitter))
