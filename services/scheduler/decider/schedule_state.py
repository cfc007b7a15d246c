"""What a schedule is at any moment, and how facts change it."""

from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec

from services.scheduler.expression import parse
from services.scheduler.timetable import Timetable
from shared.contracts.scheduler.schedules import (
    ScheduleAdded,
    ScheduleChanged,
    ScheduleFact,
    ScheduleName,
    SchedulePaused,
    SchedulePlan,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleTaskRefused,
    ScheduleTicked,
    ScheduleTickQueued,
    ScheduleTicksMissed,
)
from shared.contracts.words import TaskId

RUNS_REMEMBERED: Final = 16  # that somebody asked for: the same asked again is the same run
TIMES: Final = ("expression", "timezone")
"""The fields of a plan that say when. Where they change, time begins anew."""

_change = msgspec.structs.replace


class NoSchedule(msgspec.Struct, frozen=True, tag="none"):
    """There is none of this name."""


class Removed(msgspec.Struct, frozen=True, tag="removed"):
    """There was one. Everything up to `cursor` is decided: no due time comes again under the same name."""

    cursor: datetime


class Schedule(msgspec.Struct, frozen=True, tag="schedule", omit_defaults=True):
    """It ticks, unless it is paused. What became of every due time up to `cursor` is decided.

    `anchor`: from when `@every` counts; `waiting`: the due time that waits for the end of a task; `newest`:
    the task that was submitted last; `runs`: those of the last runs that somebody asked for.
    """

    name: ScheduleName
    plan: SchedulePlan
    anchor: datetime
    cursor: datetime
    paused: bool = False
    waiting: datetime | None = None
    newest: TaskId | None = None
    runs: tuple[TaskId, ...] = ()

    @property
    def timetable(self) -> Timetable:
        """When it is due."""
        return parse(self.plan.expression, self.plan.timezone)


State = NoSchedule | Removed | Schedule


def evolve(state: State, fact: ScheduleFact, _sequence: int, at: datetime) -> State:
    """The schedule after one of its facts. A fact that does not fit changes nothing."""
    if isinstance(fact, ScheduleAdded):
        cursor = max(at, state.cursor) if isinstance(state, Removed | Schedule) else at
        return Schedule(
            name=fact.name,
            plan=fact.plan,
            anchor=_whole(at),
            cursor=cursor,
            paused=not fact.enabled,
        )
    if not isinstance(state, Schedule):
        return state
    match fact:
        case ScheduleChanged():
            if not set(TIMES) & set(fact.changed):
                return _change(state, plan=fact.plan)
            return _change(state, plan=fact.plan, anchor=_whole(at), cursor=max(at, state.cursor))
        case SchedulePaused():
            return _change(state, paused=True, waiting=None)
        case ScheduleResumed():
            return _change(state, paused=False, cursor=max(at, state.cursor))
        case ScheduleRemoved():
            return Removed(max(at, state.cursor))
        case ScheduleTicked():
            return _ticked(state, fact)
        case ScheduleTickQueued():
            return _change(state, waiting=fact.due_at, cursor=max(fact.due_at, state.cursor))
        case ScheduleTicksMissed():
            return _change(state, cursor=max(fact.until - timedelta(seconds=1), state.cursor))
        case ScheduleTaskRefused():
            return state
        case _:
            assert_never(fact)


def _ticked(schedule: Schedule, fact: ScheduleTicked) -> Schedule:
    if fact.manual:
        if fact.task_id is None:
            return schedule
        runs = (*schedule.runs, fact.task_id)[-RUNS_REMEMBERED:]
        return _change(schedule, runs=runs, newest=fact.task_id)
    waiting = None if schedule.waiting == fact.due_at else schedule.waiting
    newest = schedule.newest if fact.task_id is None else fact.task_id
    return _change(schedule, waiting=waiting, newest=newest, cursor=max(fact.due_at, schedule.cursor))


def _whole(at: datetime) -> datetime:
    """Due times are whole seconds."""
    return at.replace(microsecond=0)
