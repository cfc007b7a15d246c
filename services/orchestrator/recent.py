"""The pasts of the tasks that were busy lately, so that asking about them needs no read of the log."""

from bisect import insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from services.orchestrator.facts import TaskEvent
from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.words import TaskId
from shared.kernel.messages import Recorded

REMEMBERED_MAX: Final = 2_000


class Recent:
    """Commits by task, each once and in order, whichever way they came. The least recent are forgotten."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._max = remembered_max
        self._pasts: OrderedDict[TaskId, list[Recorded[TaskEvent]]] = OrderedDict()

    def add(self, commit: Recorded[TaskEvent]) -> None:
        """It happened, or was heard to have happened."""
        task_id = TaskId(commit.aggregate_id)
        past = self._pasts.setdefault(task_id, [])
        self._pasts.move_to_end(task_id)
        if not past or past[-1].sequence < commit.sequence:
            past.append(commit)
        elif all(known.sequence != commit.sequence for known in past):
            insort(past, commit, key=lambda known: known.sequence)
        if len(self._pasts) > self._max:
            self._pasts.popitem(last=False)

    def past(self, task_id: TaskId) -> Sequence[Recorded[TaskEvent]]:
        """Its commits if its beginning is among them, else nothing."""
        past = self._pasts.get(task_id, ())
        return past if past and isinstance(past[0].facts[0], TaskSubmitted) else ()
