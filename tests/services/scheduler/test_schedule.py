"""What becomes of due times: fired, late, skipped and why; and how a schedule is changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.scheduler.decider.schedule import (
    CHANGED,
    MISSED,
    ONE_WAITS,
    OVERLAPS,
    PAUSED,
    REMOVED,
    SCHEDULE,
    fires_at,
    wakes_at,
)
from services.scheduler.decider.schedule_state import Schedule
from services.scheduler.schedule_commands import NoteRefused, Tick
from shared.contracts.scheduler.schedules import (
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
    TaskTemplate,
    task_id_of,
)
from shared.contracts.words import TaskId
from tests.support.scenario import NOON, given

NAME = ScheduleName("nightly")
TEMPLATE = TaskTemplate(content="run the tests")
HOUR = timedelta(hours=1)
ADDED_AT = NOON - timedelta(seconds=1)


def plan(expression: str = "0 * * * *", **fields: Any) -> SchedulePlan:
    return SchedulePlan(expression=expression, task=TEMPLATE, **fields)


def added(wanted: SchedulePlan | None = None, **fields: Any) -> ScheduleAdded:
    return ScheduleAdded(name=NAME, plan=wanted or plan(), owner="k", **fields)


def add(wanted: SchedulePlan | None = None, **fields: Any) -> AddSchedule:
    return AddSchedule(name=NAME, plan=wanted or plan(), owner="k", **fields)


def tick(*, running: bool = False, newest: datetime | None = None) -> Tick:
    return Tick(name=NAME, running=running, newest=None if newest is None else task_id_of(NAME, newest))


def fired(due_at: datetime, late_s: float = 0.0) -> ScheduleTicked:
    outcome: Any = "late" if late_s > 1 else "fired"
    return ScheduleTicked(
        name=NAME, due_at=due_at, outcome=outcome, late_s=late_s, task_id=task_id_of(NAME, due_at)
    )


def skipped(due_at: datetime, reason: str, late_s: float = 0.0) -> ScheduleTicked:
    return ScheduleTicked(name=NAME, due_at=due_at, outcome="skipped", reason=reason, late_s=late_s)


def past(*facts: ScheduleFact) -> Any:
    return given(SCHEDULE, *facts, at=ADDED_AT)


def test_a_new_schedule_is_added_and_the_same_again_is_the_same() -> None:
    given(SCHEDULE).when(add()).then(added())
    past(added()).when(add()).then_nothing()
    past(added()).when(add(plan("@daily"))).then_rejected("schedule_exists")
    given(SCHEDULE).when(add(enabled=False)).then(added(enabled=False))


def test_what_cannot_be_due_is_refused() -> None:
    given(SCHEDULE).when(add(plan("0 25 * * *"))).then_rejected("bad_expression")
    given(SCHEDULE).when(add(plan(timezone="Mars/Olympus"))).then_rejected("bad_timezone")
    given(SCHEDULE).when(add(plan("@at 2029-12-31T00:00:00Z"))).then_rejected("bad_expression")


def test_before_it_is_due_nothing_is_decided_and_then_it_fires() -> None:
    past(added()).when(tick(), at=NOON - timedelta(milliseconds=1)).then_nothing()
    past(added()).when(tick(), at=NOON).then(fired(NOON))


def test_a_due_time_never_fires_twice() -> None:
    past(added(), fired(NOON)).when(tick(newest=NOON), at=NOON + HOUR / 2).then_nothing()


def test_a_late_tick_says_by_how_much() -> None:
    past(added()).when(tick(), at=NOON + timedelta(seconds=2)).then(fired(NOON, 2.0))


def test_jitter_is_never_before_nor_after_the_next_and_always_the_same() -> None:
    wanted = plan("* * * * *", jitter_s=3600)
    state = past(added(wanted)).state
    assert isinstance(state, Schedule)
    for number in range(100):
        due_at = NOON + timedelta(minutes=number)
        at = fires_at(state, due_at)
        assert due_at <= at < due_at + timedelta(minutes=1)
        assert at == fires_at(state, due_at)
    at = fires_at(state, NOON)
    assert at == wakes_at(state)
    past(added(wanted)).when(tick(), at=at - timedelta(milliseconds=1)).then_nothing()
    past(added(wanted)).when(tick(), at=at).then(fired(NOON))


def test_missed_ticks_are_caught_up_as_the_schedule_says() -> None:
    at = NOON + 2 * HOUR + timedelta(minutes=30)
    late = [(at - (NOON + number * HOUR)).total_seconds() for number in range(3)]
    dues = [NOON + number * HOUR for number in range(3)]
    none = [skipped(due, MISSED, by) for due, by in zip(dues, late, strict=True)]
    past(added(plan(catch_up=CatchUp.SKIP))).when(tick(), at=at).then(*none)
    past(added(plan(catch_up=CatchUp.ONE))).when(tick(), at=at).then(*none[:2], fired(dues[2], late[2]))
    past(added(plan(catch_up=CatchUp.ALL))).when(tick(), at=at).then(*map(fired, dues, late))


def test_with_skip_a_short_absence_is_no_miss() -> None:
    at = NOON + timedelta(seconds=59)
    past(added(plan(catch_up=CatchUp.SKIP))).when(tick(), at=at).then(fired(NOON, 59.0))


def test_what_is_missed_beyond_the_bound_is_summed_up_in_one_receipt() -> None:
    wanted = plan("* * * * *", catch_up=CatchUp.ALL)
    at = NOON + timedelta(minutes=MISSED_MAX + 49)
    facts = past(added(wanted)).when(tick(), at=at).answer
    first = NOON + timedelta(minutes=50)
    summed = ScheduleTicksMissed(
        name=NAME, first_due_at=NOON, until=first, count=50, more=False, reason=MISSED
    )
    assert summed == facts[0]
    assert [first + timedelta(minutes=number) for number in range(MISSED_MAX)] == [
        each.due_at for each in facts[1:]
    ]
    assert {"late", "fired"} == {each.outcome for each in facts[1:]}
    given_all = SCHEDULE.fold(past(added(wanted)).state, facts, 2, at)
    assert [] == SCHEDULE.decide(given_all, tick(), at)


def test_overlap_skips_or_queues_or_does_not_mind() -> None:
    one = NOON + HOUR
    for overlap, expected in (
        (Overlap.ALLOW, fired(one)),
        (Overlap.SKIP, skipped(one, OVERLAPS)),
        (Overlap.QUEUE, ScheduleTickQueued(name=NAME, due_at=one)),
    ):
        before = past(added(plan(overlap=overlap)), fired(NOON))
        before.when(tick(running=True, newest=NOON), at=one).then(expected)
        before.when(tick(newest=NOON), at=one).then(fired(one))


def test_at_most_one_tick_waits_and_it_fires_when_the_earlier_task_ends() -> None:
    one, two = NOON + HOUR, NOON + 2 * HOUR
    queued = ScheduleTickQueued(name=NAME, due_at=one)
    before = past(added(plan(overlap=Overlap.QUEUE)), fired(NOON), queued)
    before.when(tick(running=True, newest=NOON), at=two).then(skipped(two, ONE_WAITS))
    ended = one + timedelta(minutes=10)
    before.when(tick(newest=NOON), at=ended).then(fired(one, 600.0))


def test_who_has_not_heard_of_the_last_tick_decides_nothing_where_overlap_matters() -> None:
    past(added(plan(overlap=Overlap.SKIP)), fired(NOON)).when(tick(), at=NOON + HOUR).then_nothing()
    past(added(), fired(NOON)).when(tick(), at=NOON + HOUR).then(fired(NOON + HOUR))


def test_what_was_missed_while_it_was_paused_is_never_caught_up() -> None:
    paused = SchedulePaused(name=NAME)
    past(added(), paused).when(tick(), at=NOON + HOUR).then_nothing()
    resumed = given(SCHEDULE, (added(plan(catch_up=CatchUp.ALL)), paused, ScheduleResumed(name=NAME)))
    resumed.when(tick(), at=NOON + HOUR).then(fired(NOON + HOUR))
    past(added()).when(PauseSchedule(name=NAME), at=NOON + HOUR / 2).then(
        skipped(NOON, PAUSED, 1800.0), paused
    )
    past(added(), paused).when(PauseSchedule(name=NAME)).then_nothing()
    past(added()).when(ResumeSchedule(name=NAME)).then_nothing()


def test_a_pause_gives_up_what_waits() -> None:
    queued = ScheduleTickQueued(name=NAME, due_at=NOON)
    past(added(plan(overlap=Overlap.QUEUE)), queued).when(PauseSchedule(name=NAME), at=NOON).then(
        skipped(NOON, PAUSED), SchedulePaused(name=NAME)
    )


def test_a_change_says_what_changed_and_other_times_begin_with_it() -> None:
    wanted = plan("30 * * * *", jitter_s=0.5)
    change = ChangeSchedule(name=NAME, plan=wanted)
    changed = ScheduleChanged(name=NAME, plan=wanted, changed=("expression", "jitter_s"))
    past(added()).when(change, at=NOON - timedelta(milliseconds=500)).then(changed)
    past(added()).when(change, at=NOON + HOUR / 4).then(skipped(NOON, CHANGED, 900.0), changed)
    past(added(), changed).when(change).then_nothing()
    past(added()).when(ChangeSchedule(name=NAME, plan=plan("bad"))).then_rejected("bad_expression")
    past(added()).when(ChangeSchedule(name=NAME, plan=plan(), enabled=False), at=ADDED_AT).then(
        SchedulePaused(name=NAME)
    )
    past(added(enabled=False)).when(ChangeSchedule(name=NAME, plan=plan(), enabled=True)).then(
        ScheduleResumed(name=NAME)
    )


def test_a_change_of_other_things_leaves_what_is_due() -> None:
    wanted = plan(overlap=Overlap.SKIP)
    changed = ScheduleChanged(name=NAME, plan=wanted, changed=("overlap",))
    past(added()).when(ChangeSchedule(name=NAME, plan=wanted), at=NOON).then(changed)
    past(added(), changed).when(tick(), at=NOON).then(fired(NOON))


def test_a_removed_schedule_is_gone_and_never_fires_the_same_time_again() -> None:
    removed = ScheduleRemoved(name=NAME)
    past(added()).when(RemoveSchedule(name=NAME), at=NOON).then(skipped(NOON, REMOVED), removed)
    past(added(), removed).when(RemoveSchedule(name=NAME)).then_nothing()
    past(added(), removed).when(tick(), at=NOON).then_nothing()
    past(added(), removed).when(PauseSchedule(name=NAME)).then_rejected("schedule_not_found")
    past(added(), removed).when(add(plan("@daily"))).then(added(plan("@daily")))
    at_noon = given(SCHEDULE, added(), (fired(NOON), removed), added())
    at_noon.when(tick(), at=NOON).then_nothing()


def test_a_run_that_was_asked_for_is_decided_once_and_moves_no_due_time() -> None:
    run = RunSchedule(name=NAME, task_id=TaskId("t1"))
    done = ScheduleTicked(
        name=NAME, due_at=ADDED_AT, outcome="fired", reason="asked", task_id=TaskId("t1"), manual=True
    )
    past(added(), SchedulePaused(name=NAME)).when(run, at=ADDED_AT).then(done)
    past(added(), done).when(run).then_nothing()
    past(added(), done).when(tick(), at=NOON).then(fired(NOON))
    given(SCHEDULE).when(run).then_rejected("schedule_not_found")


def test_a_task_that_was_not_accepted_is_on_record() -> None:
    note = NoteRefused(name=NAME, task_id=TaskId("t1"), code="c", detail="d")
    past(added()).when(note).then(ScheduleTaskRefused(name=NAME, task_id=TaskId("t1"), code="c", detail="d"))


def test_once_at_fires_once() -> None:
    wanted = plan("@at 2030-01-01T12:00:00Z")
    past(added(wanted)).when(tick(), at=NOON).then(fired(NOON))
    past(added(wanted), fired(NOON)).when(tick(newest=NOON), at=NOON + 999 * HOUR).then_nothing()
    state = past(added(wanted), fired(NOON)).state
    assert isinstance(state, Schedule)
    assert wakes_at(state) is None


@pytest.mark.parametrize(
    ("zone", "fires"),
    [
        ("Europe/Zurich", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("America/New_York", ["03-28 06:30", "03-29 06:30", "03-30 06:30"]),
        ("Australia/Lord_Howe", ["03-28 15:30", "03-29 15:30", "03-30 15:30"]),
    ],
)
def test_a_virtual_clock_walks_over_the_days_on_which_clocks_change(zone: str, fires: list[str]) -> None:
    at = datetime(2026, 3, 28, tzinfo=UTC)
    state = SCHEDULE.fold(SCHEDULE.initial, [added(plan("30 2 * * *", timezone=zone))], 1, at)
    seen: list[str] = []
    while at < datetime(2026, 3, 30, 23, tzinfo=UTC):
        facts = SCHEDULE.decide(state, tick(), at)
        seen += [f"{each.due_at:%m-%d %H:%M}" for each in facts if isinstance(each, ScheduleTicked)]
        state = SCHEDULE.fold(state, facts, 2, at)
        at += timedelta(minutes=1)
    assert fires == seen


def test_a_schedule_whose_time_zone_is_gone_waits_and_harms_no_other() -> None:
    state = past(added(plan(timezone="Mars/Olympus"))).state
    assert isinstance(state, Schedule)
    assert wakes_at(state) is None
