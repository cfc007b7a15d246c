"""The tasks that could start now if a bot were free, in the order in which they should."""

from heapq import heappop, heappush
from typing import Final, NamedTuple

from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.words import BotId, Priority, TaskId, TaskType

_LEVELS: Final = {priority: level for level, priority in enumerate(Priority)}


class Wants(NamedTuple):
    """What a task requires of its bot. Tasks that want the same wait in the same lines."""

    type: TaskType
    engine: str | None
    bot: BotId | None
    pool: str | None


class Place(NamedTuple):
    """Where a task stands: smaller is sooner."""

    level: int
    since: float
    task_id: TaskId


def wants_of(order: TaskSubmitted) -> Wants:
    """What a task requires."""
    return Wants(order.type, order.engine, order.bot, order.pool)


class WaitingLines:
    """Lines by requirement and priority; in each the older goes first.

    Every `ageing_s` of waiting lifts a task by one priority, up to P0, where the older goes first again. So a
    task of
    priority Pk that waits, waits at most k x ageing_s plus the time that a bot which can do it spends on
    tasks
    submitted before it or within that span: whatever is submitted later stands behind it, and it cannot
    starve.
    """

    def __init__(self) -> None:
        self._lines: dict[Wants, tuple[list[tuple[float, TaskId]], ...]] = {}
        self._where: dict[TaskId, tuple[Wants, int, float]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self._where

    def add(self, order: TaskSubmitted, since: float) -> None:
        """It waits since then; twice is once."""
        wants, level = wants_of(order), _LEVELS[order.priority]
        if self._where.get(order.task_id) == (wants, level, since):
            return
        self._where[order.task_id] = (wants, level, since)
        lines = self._lines.setdefault(wants, tuple([] for _ in _LEVELS))
        heappush(lines[level], (since, order.task_id))

    def remove(self, task_id: TaskId) -> None:
        """It waits no more. Its place is tidied when it comes to the front."""
        self._where.pop(task_id, None)

    def wanted(self) -> list[Wants]:
        """The requirements that someone waits with."""
        empty = [wants for wants, lines in self._lines.items() if not any(map(self._front, lines))]
        for wants in empty:
            del self._lines[wants]
        return list(self._lines)

    def first(self, wants: Wants, now: float, ageing_s: float) -> Place | None:
        """Who is next among those who want the same."""
        best: Place | None = None
        for level, line in enumerate(self._lines.get(wants, ())):
            front = self._front(line)
            if front is None:
                continue
            since, task_id = front
            place = Place(aged(level, since, now, ageing_s), since, task_id)
            if best is None or place < best:
                best = place
        return best

    def _front(self, line: list[tuple[float, TaskId]]) -> tuple[float, TaskId] | None:
        while line:
            since, task_id = line[0]
            where = self._where.get(task_id)
            if where is not None and where[2] == since and self._lines[where[0]][where[1]] is line:
                return line[0]
            heappop(line)
        return None


def aged(level: int, since: float, now: float, ageing_s: float) -> int:
    """The priority that a task has by now: one better for each `ageing_s` it has waited."""
    return max(0, level - int(max(0.0, now - since) / ageing_s))


def place_of(order: TaskSubmitted, since: float, now: float, ageing_s: float) -> Place:
    """Where a task stands among all that wait."""
    return Place(aged(_LEVELS[order.priority], since, now, ageing_s), since, order.task_id)
