"""Any commands in any order at any time: no due time twice, none before it is due, none forgotten."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.decider.schedule import SCHEDULE, fires_at
from services.scheduler.decider.schedule_state import NoSchedule, Schedule, State
from services.scheduler.schedule_commands import Tick
from services.scheduler.schedule_facts import SCHEDULE_CODEC
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
    ScheduleFact,
    ScheduleName,
    SchedulePlan,
    ScheduleTicked,
    ScheduleTickQueued,
    ScheduleTicksMissed,
    TaskTemplate,
)
from shared.contracts.words import TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from tests.support.scenario import NOON

NAME = ScheduleName("s")
PLANS = strategies.builds(
    SchedulePlan,
    expression=strategies.sampled_from(["* * * * *", "@every 7s", "*/10 * * * * *", "0 2 * * *", "@hourly"]),
    task=strategies.just(TaskTemplate(content="x")),
    timezone=strategies.sampled_from(["UTC", "Europe/Zurich"]),
    jitter_s=strategies.sampled_from([0.0, 3.0, 600.0]),
    catch_up=strategies.sampled_from(CatchUp),
    overlap=strategies.sampled_from(Overlap),
)


class ScheduleLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state: State = SCHEDULE.initial
        self.at = NOON
        self.sequence = 0
        self.decided: set[datetime] = set()
        self.receipts: list[datetime] = []
        self.queued: set[datetime] = set()
        self.running: set[TaskId] = set()
        self.runs = 0

    @rule(wait=strategies.sampled_from([0.0, 0.5, 4.0, 70.0, 1_800.0, 90_000.0]), again=strategies.booleans())
    def tick(self, wait: float, again: bool) -> None:  # noqa: FBT001
        self.at += timedelta(seconds=wait)
        newest = self.state.newest if isinstance(self.state, Schedule) else None
        before = self.state
        facts = self.send(Tick(name=NAME, running=bool(self.running), newest=newest))
        tasks = [each.task_id for each in facts if isinstance(each, ScheduleTicked) and each.task_id]
        if isinstance(before, Schedule) and before.plan.overlap is not Overlap.ALLOW:
            assert len(tasks) <= (0 if self.running - set(tasks) else 1)
        if again:  # another scheduler, or the same after a crash: it is decided already
            assert not [
                each for each in self.send(Tick(name=NAME, running=True, newest=self.newest())) if each
            ]

    def newest(self) -> TaskId | None:
        return self.state.newest if isinstance(self.state, Schedule) else None

    @rule(plan=PLANS, enabled=strategies.booleans())
    def add(self, plan: SchedulePlan, enabled: bool) -> None:  # noqa: FBT001
        self.send(AddSchedule(name=NAME, plan=plan, owner="k", enabled=enabled))

    @rule(plan=PLANS, enabled=strategies.sampled_from([True, False, None]))
    def change(self, plan: SchedulePlan, enabled: bool | None) -> None:  # noqa: FBT001
        self.send(ChangeSchedule(name=NAME, plan=plan, enabled=enabled))

    @rule(kind=strategies.sampled_from([PauseSchedule, ResumeSchedule, RemoveSchedule]))
    def turn(self, kind: Any) -> None:
        self.send(kind(name=NAME))

    @rule()
    def run_now(self) -> None:
        self.runs += 1
        self.send(RunSchedule(name=NAME, task_id=TaskId(f"run-{self.runs}")))

    @rule()
    def the_tasks_end(self) -> None:
        self.running.clear()

    def send(self, command: Any) -> list[ScheduleFact]:
        before = self.state
        try:
            facts = SCHEDULE.decide(before, command, self.at)
        except Rejected:
            return []
        self.sequence += 1
        self.state = SCHEDULE.fold(before, facts, self.sequence, self.at)
        assert facts == [SCHEDULE_CODEC.decode(encode(fact)) for fact in facts]
        assert len(facts) <= MISSED_MAX + 5
        for fact in facts:
            self.note(fact, before)
        return facts

    def note(self, fact: ScheduleFact, before: State) -> None:
        if isinstance(fact, ScheduleTicksMissed):
            assert fact.first_due_at < fact.until <= self.at
            return
        if isinstance(fact, ScheduleTickQueued):
            assert not self.queued
            self.queued.add(fact.due_at)
            self.ordered(fact.due_at)
            return
        if not isinstance(fact, ScheduleTicked):
            return
        if fact.task_id is not None:
            assert fact.task_id not in self.running
            self.running.add(fact.task_id)
        if fact.manual:
            return
        assert fact.due_at <= self.at
        assert fact.due_at not in self.decided
        if fact.task_id is not None:
            assert isinstance(before, Schedule)
            assert not before.paused
            assert fact.due_at in self.queued or fires_at(before, fact.due_at) <= self.at
        self.decided.add(fact.due_at)
        if fact.due_at in self.queued:
            self.queued.discard(fact.due_at)
        else:
            self.ordered(fact.due_at)

    def ordered(self, due_at: datetime) -> None:
        assert not self.receipts or due_at > self.receipts[-1]
        self.receipts.append(due_at)

    @invariant()
    def nothing_is_decided_before_its_time(self) -> None:
        if not isinstance(self.state, NoSchedule):
            assert self.state.cursor <= self.at
        if isinstance(self.state, Schedule):
            assert self.queued == ({self.state.waiting} if self.state.waiting else set())


TestScheduleLife = ScheduleLife.TestCase
