"""What is kept of a schedule beside its log: a fold, and the tasks of its ticks that have not ended."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from services.scheduler.decider.schedule_state import NoSchedule, Removed, Schedule, State, evolve
from services.scheduler.schedule_facts import ScheduleEvent
from shared.contracts.orchestrator.facts import TaskCancelled, TaskCompleted, TaskExpired, TaskFailed
from shared.contracts.scheduler.schedules import (
    ScheduleAdded,
    ScheduleChanged,
    ScheduleName,
    ScheduleTicked,
    ScheduleTicksMissed,
    TaskTemplate,
)
from shared.contracts.words import TaskId
from shared.kernel.messages import Recorded

CAUSES_KEPT: Final = 8  # a command comes again only while it is not acknowledged: a few seconds

_change = msgspec.structs.replace


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule after its commit `version`, with what it counts."""

    state: Schedule | Removed
    version: int
    at: datetime
    owner: str
    created_at: datetime
    changed_at: datetime
    fired: int = 0
    late: int = 0
    skipped: int = 0
    last_due_at: datetime | None = None
    causes: dict[str, int] = {}


class Open(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The task of a tick, from then until it ends: what it is, and the chain that it belongs to."""

    task_id: TaskId
    name: ScheduleName
    task: TaskTemplate
    chain: str


def fold(kept: Kept | None, commit: Recorded[ScheduleEvent]) -> Kept | None:
    """What is kept after a commit. A commit counts once."""
    if kept is not None and commit.sequence <= kept.version:
        return kept
    state: State = NoSchedule() if kept is None else kept.state
    for fact in commit.facts:
        state = evolve(state, fact, commit.sequence, commit.at)
        if isinstance(state, NoSchedule):
            continue
        if isinstance(fact, ScheduleAdded):
            kept = Kept(
                state=state,
                version=commit.sequence,
                at=commit.at,
                owner=fact.owner,
                created_at=commit.at,
                changed_at=commit.at,
            )
        elif kept is not None:
            kept = _counted(_change(kept, state=state), fact, commit.at)
    if kept is None:
        return None
    causes = {**kept.causes, commit.cause.message_id: commit.sequence}
    if len(causes) > CAUSES_KEPT:
        del causes[next(iter(causes))]
    return _change(kept, version=commit.sequence, at=commit.at, causes=causes)


def opened(kept: Kept | None, commit: Recorded[ScheduleEvent]) -> Iterator[Open]:
    """The tasks that a commit wants submitted: as the schedule said when the commit was made."""
    state: State = NoSchedule() if kept is None else kept.state
    for fact in commit.facts:
        state = evolve(state, fact, commit.sequence, commit.at)
        if isinstance(fact, ScheduleTicked) and fact.task_id is not None and isinstance(state, Schedule):
            yield Open(
                task_id=fact.task_id,
                name=fact.name,
                task=state.plan.task,
                chain=commit.cause.correlation_id,
            )


def is_end(fact: Any) -> bool:
    """Whether a fact of a task is its last."""
    return isinstance(fact, TaskCompleted | TaskFailed | TaskCancelled | TaskExpired)


def _counted(kept: Kept, fact: ScheduleEvent, at: datetime) -> Kept:
    match fact:
        case ScheduleTicked():
            return _change(
                kept,
                fired=kept.fired + (fact.outcome == "fired"),
                late=kept.late + (fact.outcome == "late"),
                skipped=kept.skipped + (fact.outcome == "skipped"),
                last_due_at=kept.last_due_at if fact.manual else fact.due_at,
            )
        case ScheduleTicksMissed():
            return _change(kept, skipped=kept.skipped + fact.count)
        case ScheduleChanged():
            return _change(kept, changed_at=at)
        case _:
            return kept
