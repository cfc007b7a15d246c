"""The life of a schedule: it is added, ticks, is changed, paused, resumed, run at once, removed.

What becomes of a due time is decided once: `cursor` moves over it in the same commit. A tick that was missed
is one whose successor is due as well, or that is MISSED_AFTER late.
"""

import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from services.scheduler.decider.schedule_state import (
    TIMES,
    NoSchedule,
    Removed,
    Schedule,
    State,
    evolve,
)
from services.scheduler.expression import parse
from services.scheduler.schedule_commands import NoteRefused, ScheduleWish, Tick
from services.scheduler.timetable import Found, Once, due_after, due_between
from shared.contracts.scheduler.schedules import (
    COUNTED_MAX,
    LATE_AFTER,
    MISSED_AFTER,
    MISSED_MAX,
    AddSchedule,
    CatchUp,
    ChangeSchedule,
    Overlap,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    RunSchedule,
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
    task_id_of,
)
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

PAUSED: Final = "the schedule was paused"
CHANGED: Final = "the schedule was changed"
REMOVED: Final = "the schedule was removed"
MISSED: Final = "missed: nobody was there when it was due"
OVERLAPS: Final = "the task of an earlier tick has not ended"
ONE_WAITS: Final = "the task of an earlier tick has not ended, and another tick waits for that already"


def decide(state: State, command: ScheduleWish, at: datetime) -> list[ScheduleFact]:
    """What follows from a command; `[]`: it is so already, or there is nothing to decide yet."""
    match command:
        case AddSchedule():
            return _add(state, command, at)
        case ChangeSchedule():
            return _change(_there(state, command.name), command, at)
        case PauseSchedule():
            schedule = _there(state, command.name)
            return [] if schedule.paused else _pause(schedule, at)
        case ResumeSchedule():
            return [ScheduleResumed(name=command.name)] if _there(state, command.name).paused else []
        case RemoveSchedule():
            if isinstance(state, Removed):
                return []
            schedule = _there(state, command.name)
            return [*_settled(schedule, at, REMOVED), ScheduleRemoved(name=command.name)]
        case RunSchedule():
            return _run(_there(state, command.name), command, at)
        case Tick():
            return _tick(state, command, at) if isinstance(state, Schedule) and not state.paused else []
        case NoteRefused():
            return [
                ScheduleTaskRefused(
                    name=command.name, task_id=command.task_id, code=command.code, detail=command.detail
                )
            ]
        case _:
            assert_never(command)


def fires_at(schedule: Schedule, due_at: datetime) -> datetime:
    """When a due time fires: after its jitter, which never reaches the next due time."""
    jitter = timedelta(seconds=schedule.plan.jitter_s)
    if not jitter:
        return due_at
    following = next(due_after(schedule.timetable, schedule.anchor, due_at), None)
    longest = jitter if following is None else min(jitter, following - due_at)
    return due_at + longest * (zlib.crc32(f"{schedule.name}:{due_at.isoformat()}".encode()) / 2**32)


def wakes_at(schedule: Schedule) -> datetime | None:
    """When there is something to decide next; None: never, as things are."""
    if schedule.paused:
        return None
    try:
        timetable = schedule.timetable
    except Rejected:
        return None  # its time zone, say, is gone from this machine: who looks at it is told
    due_at = next(due_after(timetable, schedule.anchor, schedule.cursor), None)
    return None if due_at is None else fires_at(schedule, due_at)


def _there(state: State, name: ScheduleName) -> Schedule:
    if not isinstance(state, Schedule):
        raise Rejected("schedule_not_found", f"there is no schedule {name}")
    return state


def _check(plan: SchedulePlan, at: datetime) -> None:
    timetable = parse(plan.expression, plan.timezone)
    if isinstance(timetable, Once) and timetable.at <= at:
        raise Rejected(
            "bad_expression",
            f"expression: {timetable.at:%Y-%m-%dT%H:%M:%SZ} is in the past, now it is "
            f"{at:%Y-%m-%dT%H:%M:%SZ}; name a time to come, or run the task at once: hive submit",
        )


def _add(state: State, command: AddSchedule, at: datetime) -> list[ScheduleFact]:
    match state:
        case Schedule():
            if state.plan == command.plan and state.paused != command.enabled:
                return []
            raise Rejected(
                "schedule_exists",
                f"there is a schedule {command.name} already: change it, or remove it first",
            )
        case NoSchedule() | Removed():
            _check(command.plan, at)
            return [
                ScheduleAdded(
                    name=command.name, plan=command.plan, owner=command.owner, enabled=command.enabled
                )
            ]
        case _:
            assert_never(state)


def _change(schedule: Schedule, command: ChangeSchedule, at: datetime) -> list[ScheduleFact]:
    plan, facts = command.plan, list[ScheduleFact]()
    changed = tuple(
        field for field in plan.__struct_fields__ if getattr(plan, field) != getattr(schedule.plan, field)
    )
    if changed:
        if set(TIMES) & set(changed):
            _check(plan, at)
            facts += _settled(schedule, at, CHANGED, waiting_too=False)
        facts.append(ScheduleChanged(name=command.name, plan=plan, changed=changed))
    if command.enabled is not None and command.enabled == schedule.paused:
        if command.enabled:
            facts.append(ScheduleResumed(name=command.name))
        elif changed and set(TIMES) & set(changed):
            facts += [*_dropped(schedule, at, PAUSED), SchedulePaused(name=command.name)]
        else:
            facts += _pause(schedule, at)
    return facts


def _pause(schedule: Schedule, at: datetime) -> list[ScheduleFact]:
    return [*_settled(schedule, at, PAUSED), SchedulePaused(name=schedule.name)]


def _run(schedule: Schedule, command: RunSchedule, at: datetime) -> list[ScheduleFact]:
    if command.task_id in schedule.runs:
        return []
    run = ScheduleTicked(
        name=command.name, due_at=at, outcome="fired", reason="asked", task_id=command.task_id, manual=True
    )
    return [run]


def _tick(schedule: Schedule, command: Tick, at: datetime) -> list[ScheduleFact]:
    if schedule.plan.overlap is not Overlap.ALLOW and command.newest != schedule.newest:
        return []  # asked by who has not heard of the last tick, and cannot know whether its task runs
    facts, running, waiting = list[ScheduleFact](), command.running, schedule.waiting
    if waiting is not None and not running:
        facts.append(_fired(schedule, waiting, at))
        running, waiting = True, None
    found = _undecided(schedule, at)
    dues = found.newest
    if dues and fires_at(schedule, dues[-1]) > at:
        dues = dues[:-1]  # its jitter is not over; it is due next
    facts += _summed(schedule, found, MISSED)
    for due_at in dues:
        if not _wanted(schedule, due_at, dues[-1], at):
            facts.append(_skipped(schedule, due_at, at, MISSED))
        elif not running or schedule.plan.overlap is Overlap.ALLOW:
            facts.append(_fired(schedule, due_at, at))
            running = True
        elif schedule.plan.overlap is Overlap.SKIP:
            facts.append(_skipped(schedule, due_at, at, OVERLAPS))
        elif waiting is None:
            facts.append(ScheduleTickQueued(name=schedule.name, due_at=due_at))
            waiting = due_at
        else:
            facts.append(_skipped(schedule, due_at, at, ONE_WAITS))
    return facts


def _wanted(schedule: Schedule, due_at: datetime, newest: datetime, at: datetime) -> bool:
    match schedule.plan.catch_up:
        case CatchUp.ALL:
            return True
        case CatchUp.ONE:
            return due_at == newest
        case CatchUp.SKIP:
            return due_at == newest and at - fires_at(schedule, due_at) <= MISSED_AFTER
        case catch_up:
            assert_never(catch_up)


def _fired(schedule: Schedule, due_at: datetime, at: datetime) -> ScheduleTicked:
    late = max(timedelta(0), at - fires_at(schedule, due_at))
    return ScheduleTicked(
        name=schedule.name,
        due_at=due_at,
        outcome="late" if late > LATE_AFTER else "fired",
        late_s=round(late.total_seconds(), 3),
        task_id=task_id_of(schedule.name, due_at),
    )


def _skipped(schedule: Schedule, due_at: datetime, at: datetime, reason: str) -> ScheduleTicked:
    late_s = round(max(0.0, (at - due_at).total_seconds()), 3)
    return ScheduleTicked(name=schedule.name, due_at=due_at, outcome="skipped", reason=reason, late_s=late_s)


def _undecided(schedule: Schedule, at: datetime) -> Found:
    if schedule.cursor >= at:
        return Found([], 0, None, more=False)
    timetable, anchor = schedule.timetable, schedule.anchor
    return due_between(timetable, anchor, schedule.cursor, at, most=MISSED_MAX, counted_max=COUNTED_MAX)


def _summed(schedule: Schedule, found: Found, reason: str) -> Iterator[ScheduleFact]:
    if found.first is not None:
        yield ScheduleTicksMissed(
            name=schedule.name,
            first_due_at=found.first,
            until=found.newest[0],
            count=found.older,
            more=found.more,
            reason=reason,
        )


def _settled(
    schedule: Schedule, at: datetime, reason: str, *, waiting_too: bool = True
) -> list[ScheduleFact]:
    """Receipts for what was due and is not decided: it will not be any more."""
    facts = _dropped(schedule, at, reason) if waiting_too else []
    if schedule.paused:
        return facts
    found = _undecided(schedule, at)
    facts += _summed(schedule, found, reason)
    facts += [_skipped(schedule, due_at, at, reason) for due_at in found.newest]
    return facts


def _dropped(schedule: Schedule, at: datetime, reason: str) -> list[ScheduleFact]:
    return [] if schedule.waiting is None else [_skipped(schedule, schedule.waiting, at, reason)]


SCHEDULE: Final = Decider[State, ScheduleWish, ScheduleFact](
    initial=NoSchedule(), evolve=evolve, decide=decide
)
