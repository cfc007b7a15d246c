"""Which tasks those that live have spawned, and how they have ended."""

from services.orchestrator.decider.task_state import How
from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.words import TaskId


class Families:
    """The children of each living task, in the order of spawning; None: it has not ended."""

    def __init__(self) -> None:
        self.children: dict[TaskId, dict[TaskId, How | None]] = {}
        self._parents: dict[TaskId, TaskId] = {}

    def of(self, parent: TaskId) -> dict[TaskId, How | None]:
        """Its children."""
        return self.children.get(parent, {})

    def parent_of(self, child: TaskId) -> TaskId | None:
        """Its parent, if that lives."""
        return self._parents.get(child)

    def add(self, order: TaskSubmitted) -> None:
        """It was submitted; if it was spawned, its parent may ask about it."""
        if order.ancestors:
            self.known(order.ancestors[-1], order.task_id, None)

    def known(self, parent: TaskId, child: TaskId, how: How | None) -> None:
        """There is such a child; what is known of its end stays known."""
        self._parents[child] = parent
        children = self.children.setdefault(parent, {})
        children[child] = children.get(child) or how

    def ended(self, child: TaskId, how: How) -> None:
        """It has ended; its parent may ask about it."""
        parent = self._parents.get(child)
        if parent is not None:
            self.children[parent][child] = how

    def forget(self, parent: TaskId) -> None:
        """It has ended: nobody asks about its children any more."""
        for child in self.children.pop(parent, {}):
            self._parents.pop(child, None)
