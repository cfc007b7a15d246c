"""When tasks must be done, the next first."""

from collections.abc import Collection
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final

from shared.contracts.words import TaskId

DEADLINES_KEPT: Final = 1_000  # of tasks that have ended, at least


class Deadlines:
    """Those of tasks that have ended are forgotten once they are the most."""

    def __init__(self) -> None:
        self._next: list[tuple[datetime, TaskId]] = []
        self._passed: set[TaskId] = set()

    def __len__(self) -> int:
        return len(self._next)

    def add(self, deadline: datetime, task_id: TaskId, living: Collection[TaskId]) -> None:
        """It must be done by then."""
        heappush(self._next, (deadline, task_id))
        if len(self._next) > 2 * len(living) + DEADLINES_KEPT:
            self._next = [each for each in self._next if each[1] in living]
            heapify(self._next)

    def passed(self, now: datetime, living: Collection[TaskId]) -> list[TaskId]:
        """Those of the living whose deadline has passed."""
        while self._next and self._next[0][0] <= now:
            self._passed.add(heappop(self._next)[1])
        self._passed = {task_id for task_id in self._passed if task_id in living}
        return list(self._passed)
