"""What tasks must know of others: how those have ended after which they come, or from which they descend.

A task is no longer wanted when one from which it descends was cancelled, has failed or expired, or was
cancelled with its tree after its end. One that is merely tried again keeps its children.

Of a task that neither lives nor is known to have ended, the log is asked. All this is rebuilt from the tasks
that live, so it survives any restart; what is decided about a task is asked for until the task has changed.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple, assert_never

from services.orchestrator.commands import CancelOrphan, FailDependent, OwnTaskCommand, ReleaseTask
from services.orchestrator.decider.task_state import Blocked, Ended, Held, How, Task, Unknown, Waiting
from shared.contracts.orchestrator.facts import TaskError, TaskSubmitted
from shared.contracts.words import DEPENDENCY_KNOWN_WITHIN, AfterPolicy, TaskId

AGAIN_AFTER_S: Final = 5.0  # the log is asked again about a task of which nothing is heard
NAMED_MAX: Final = 10


BAD_ENDS: Final[frozenset[How]] = frozenset({"failed", "cancelled", "expired"})


class News(NamedTuple):
    """The tasks about which something is newly to be decided, and those of which the log is to be asked."""

    ripe: set[TaskId]
    unsure: set[TaskId]


class Dependent(NamedTuple):
    """A task that waits for others, since when, and for which of them still."""

    order: TaskSubmitted
    since: datetime
    unmet: set[TaskId]


class Kin:
    """Who comes after whom, and who descends from whom.

    What is to be decided about a task, until it was: `ripe` if it waits for others, `orphans` if it is no
    longer wanted.
    """

    def __init__(self) -> None:
        self.ripe: dict[TaskId, OwnTaskCommand] = {}
        self.orphans: dict[TaskId, CancelOrphan] = {}
        self.missing: set[TaskId] = set()  # nobody has submitted these
        self._dependents: dict[TaskId, Dependent] = {}
        self._heirs: dict[TaskId, set[TaskId]] = {}
        self._descents: dict[TaskId, tuple[TaskId, ...]] = {}
        self._offspring: dict[TaskId, set[TaskId]] = {}
        self._ends: dict[TaskId, How] = {}
        self._condemned: set[TaskId] = set()
        self._unsure: dict[TaskId, float | None] = {}
        self._news = News(set(), set())

    def heirs(self, task_id: TaskId) -> set[TaskId]:
        """Who must know of its end."""
        return self._heirs.get(task_id, set()) | self._offspring.get(task_id, set())

    def due(self) -> Iterator[TaskId]:
        """About whom something is to be decided."""
        return chain(self.orphans, self.ripe)

    def outstanding(self, task_id: TaskId) -> OwnTaskCommand | None:
        """What is to be decided about a task."""
        return self.orphans.get(task_id) or self.ripe.get(task_id)

    def unmet(self, task_id: TaskId) -> list[TaskId]:
        """For whom it still waits, in the order in which they were named."""
        dependent = self._dependents.get(task_id)
        if dependent is None:
            return []
        return [other for other in dependent.order.after if other in dependent.unmet]

    def began(self, order: TaskSubmitted, since: datetime, task: Callable[[TaskId], Task]) -> None:
        """It was submitted, and waits for others."""
        self._dependents[order.task_id] = Dependent(order, since, set(order.after))
        for other in order.after:
            self._heirs.setdefault(other, set()).add(order.task_id)
            if other not in self._ends and other not in self.missing:
                self._note(other, task(other))
        self.opened(order.task_id)
        cycle = self._cycle(order.task_id)
        for member in cycle:
            detail = f"it would wait for itself: {_named(cycle)}"
            self._ripen(member, _failed(member, "dependency_cycle", detail))
        self._judge(order.task_id)

    def spawned(self, order: TaskSubmitted, task: Callable[[TaskId], Task]) -> None:
        """It was submitted, and descends from others."""
        self._descents[order.task_id] = order.ancestors
        for other in order.ancestors:
            self._offspring.setdefault(other, set()).add(order.task_id)
            if other not in self._ends:
                self._note(other, task(other))
        self._judge_descent(order.task_id)

    def opened(self, task_id: TaskId) -> None:
        """It was submitted: who waits for it will hear of its end."""
        self._unsure.pop(task_id, None)
        self.missing.discard(task_id)

    def ended(self, task_id: TaskId, how: How) -> None:
        """Who waits for it, or descends from it, learns how."""
        if not self._is_asked_about(task_id):
            return
        self.opened(task_id)
        self._ends[task_id] = how
        for heir in list(self._heirs.get(task_id, ())):
            self._judge(heir)
        if how in BAD_ENDS:
            for descendant in self._offspring.get(task_id, ()):
                self._judge_descent(descendant)

    def condemned(self, task_id: TaskId) -> None:
        """It has ended, and nothing that descends from it is wanted."""
        if self._is_asked_about(task_id):
            self._condemned.add(task_id)
            for descendant in self._offspring.get(task_id, ()):
                self._judge_descent(descendant)

    def left(self, task_id: TaskId) -> None:
        """It has ended: what becomes of those from which it descends does not matter to it."""
        self.orphans.pop(task_id, None)
        self._news.ripe.discard(task_id)
        for other in self._descents.pop(task_id, ()):
            self._offspring[other].discard(task_id)
            if not self._offspring[other]:
                del self._offspring[other]
            self._let_go(other)

    def forget(self, task_id: TaskId) -> None:
        """It waits for nobody any more."""
        dependent = self._dependents.pop(task_id, None)
        self.ripe.pop(task_id, None)
        self._news.ripe.discard(task_id)
        if dependent is None:
            return
        for other in dependent.order.after:
            heirs = self._heirs.get(other, set())
            heirs.discard(task_id)
            if not heirs:
                self._heirs.pop(other, None)
            self._let_go(other)

    def learned(self, task_id: TaskId, task: Task) -> None:
        """What the log says of it; if something was heard meanwhile, that is newer."""
        if task_id not in self._unsure:
            return
        match task:
            case Ended():
                if task.tree_cancelled:
                    self.condemned(task_id)
                self.ended(task_id, task.how)
            case Unknown():
                del self._unsure[task_id]
                self.missing.add(task_id)
            case Waiting() | Held() | Blocked():
                pass  # it lives, and will be heard of
            case _:
                assert_never(task)

    def give_up(self, now: datetime) -> None:
        """Who has waited too long for what nobody submits waits no longer."""
        for other in self.missing:
            for heir in self._heirs.get(other, ()):
                dependent = self._dependents[heir]
                if dependent.since + DEPENDENCY_KNOWN_WITHIN <= now:
                    self._ripen(heir, _failed(heir, "dependency_failed", f"{other} was never submitted"))

    def unsure(self, mono: float) -> Iterator[TaskId]:
        """Of whom the log is to be asked, or asked again."""
        asked = self._unsure.items()
        return (task_id for task_id, at in asked if at is None or mono - at >= AGAIN_AFTER_S)

    def asked(self, task_ids: Iterable[TaskId], mono: float) -> None:
        """The log is being asked of these."""
        self._unsure.update({task_id: mono for task_id in task_ids if task_id in self._unsure})

    def take_news(self) -> News:
        """What is new since this was asked last."""
        news, self._news = self._news, News(set(), set())
        return news

    def _note(self, other: TaskId, task: Task) -> None:
        match task:
            case Ended():
                self._ends[other] = task.how
                if task.tree_cancelled:
                    self._condemned.add(other)
            case Unknown():
                self._unsure.setdefault(other, None)
                self._news.unsure.add(other)
            case Waiting() | Held() | Blocked():
                pass
            case _:
                assert_never(task)

    def _judge(self, task_id: TaskId) -> None:
        dependent = self._dependents.get(task_id)
        if dependent is None or task_id in self.ripe:
            return
        for other in dependent.order.after:
            how = self._ends.get(other)
            if how is None:
                continue
            if dependent.order.after_policy is AfterPolicy.COMPLETED and how != "completed":
                self._ripen(task_id, _failed(task_id, "dependency_failed", f"{other} is {how}"))
                return
            dependent.unmet.discard(other)
        if not dependent.unmet:
            self._ripen(task_id, ReleaseTask(task_id=task_id))

    def _judge_descent(self, task_id: TaskId) -> None:
        for other in reversed(self._descents[task_id]):
            how = "cancelled with its tree" if other in self._condemned else self._ends.get(other)
            if how in BAD_ENDS or other in self._condemned:
                whose = "its parent" if other == self._descents[task_id][-1] else "its ancestor"
                self.orphans[task_id] = CancelOrphan(task_id=task_id, reason=f"{whose} {other} is {how}")
                self._news.ripe.add(task_id)
                return

    def _is_asked_about(self, task_id: TaskId) -> bool:
        return task_id in self._heirs or task_id in self._offspring

    def _let_go(self, other: TaskId) -> None:
        """Forget it if nobody must know of it."""
        if not self._is_asked_about(other):
            self._ends.pop(other, None)
            self._condemned.discard(other)
            self.opened(other)

    def _ripen(self, task_id: TaskId, command: OwnTaskCommand) -> None:
        if task_id not in self.ripe:
            self.ripe[task_id] = command
            self._news.ripe.add(task_id)

    def _cycle(self, task_id: TaskId) -> list[TaskId]:
        """Those who wait for each other in a circle through it: who came last has closed it."""
        if task_id not in self._heirs:
            return []
        came_from: dict[TaskId, TaskId] = {}
        waiting = [task_id]
        while waiting:
            here = waiting.pop()
            dependent = self._dependents.get(here)
            for other in () if dependent is None else dependent.unmet:
                if other == task_id:
                    path = [here]
                    while path[-1] != task_id:
                        path.append(came_from[path[-1]])
                    return path[::-1]
                if other not in came_from:
                    came_from[other] = here
                    waiting.append(other)
        return []


def _failed(task_id: TaskId, code: str, detail: str) -> FailDependent:
    return FailDependent(task_id=task_id, error=TaskError(code=code, detail=detail))


def _named(path: list[TaskId]) -> str:
    shown = [*path[:NAMED_MAX], "…"] if len(path) > NAMED_MAX else [*path]
    return " after ".join([*shown, path[0]])
