"""Tasks that come after others: begun when those have come to what was asked, or given up."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.orchestrator.commands import CancelOrphan, FailDependent, ReleaseTask
from services.orchestrator.decider.task_state import Ended, Unknown, Waiting
from services.orchestrator.kin import Kin
from services.orchestrator.reactions import todo
from services.orchestrator.steps import Decide, Recall, Step
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.orchestrator.facts import (
    DependenciesMet,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TreeCancelled,
)
from shared.contracts.orchestrator.queries import GetCounts, GetTimeline, GetWhy
from shared.contracts.words import DEPENDENCY_KNOWN_WITHIN, AfterPolicy, TaskId
from shared.runtime.memory import MemoryStore
from tests.services.orchestrator.builders import (
    ERROR,
    T1,
    assign,
    completed,
    done,
    place,
    report,
    submit,
    submitted,
    task,
)
from tests.services.orchestrator.scenes import Stage
from tests.services.orchestrator.workshop import CAUSE, workshop

A, B, C, D = (TaskId(name) for name in "abcd")


def decisions(stage: Stage) -> list[Any]:
    return [step.command for step in todo(stage.scene, stage.moment) if isinstance(step, Decide)]


def questions(steps: list[Step]) -> list[TaskId]:
    return [step.task_id for step in steps if isinstance(step, Recall)]


def cancelled(task_id: TaskId) -> TaskCancelled:
    return TaskCancelled(task_id=task_id, reason="asked")


def gave_up(task_id: TaskId) -> TaskFailed:
    return TaskFailed(task_id=task_id, error=ERROR, attempts=1)


# What is decided about one task.


def test_a_task_that_comes_after_others_is_given_to_no_bot() -> None:
    order = submitted(after=(A,))
    task(order).when(assign()).then()
    task(order).when(ReleaseTask(task_id=T1)).then(DependenciesMet(task_id=T1))
    task(order, DependenciesMet(task_id=T1)).when(ReleaseTask(task_id=T1)).then()


def test_a_submission_that_names_others_is_never_begun_at_once() -> None:
    submission = submit(after=(A,))
    task().when(place(submission)).then(submitted(after=(A,)))


def test_a_task_whose_dependency_failed_fails_without_an_attempt() -> None:
    fail = FailDependent(task_id=T1, error=ERROR)
    failed = TaskFailed(task_id=T1, error=ERROR, attempts=0)
    task(submitted(after=(A,))).when(fail).then(failed)
    task(submitted(after=(A,)), failed).when(fail).then()
    task(submitted()).when(fail).then()


# What is outstanding between tasks.


def test_it_is_released_when_the_last_of_them_has_completed() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(B))
    stage.tell(submitted(C, after=(A, B)))
    assert decisions(stage) == []
    stage.tell(completed(task_id=A))
    assert (decisions(stage), stage.board.kin.unmet(C)) == ([], [B])
    stage.tell(completed(task_id=B))
    assert decisions(stage) == [ReleaseTask(task_id=C)]
    assert decisions(stage) == [ReleaseTask(task_id=C)]  # until it is so
    stage.tell(DependenciesMet(task_id=C))
    assert decisions(stage) == []
    assert C in stage.board.lines


def test_while_it_waits_for_others_it_stands_in_no_line() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(C, after=(A,)))
    assert C not in stage.board.lines
    stage.board.own_partitions(stage.board.owned)
    assert C not in stage.board.lines


def test_it_fails_when_one_of_them_ends_otherwise_and_names_it() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(B))
    stage.tell(submitted(C, after=(A, B)))
    stage.tell(cancelled(B))
    (told,) = decisions(stage)
    assert isinstance(told, FailDependent)
    assert (told.task_id, told.error.code, told.error.detail) == (C, "dependency_failed", "b is cancelled")


def test_any_end_is_enough_where_that_was_asked() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(C, after=(A,), after_policy=AfterPolicy.ENDED))
    stage.tell(gave_up(A))
    assert decisions(stage) == [ReleaseTask(task_id=C)]


def test_a_failure_runs_down_a_chain() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(B, after=(A,)))
    stage.tell(submitted(C, after=(B,)))
    stage.tell(gave_up(A))
    (first,) = decisions(stage)
    stage.tell(TaskFailed(task_id=B, error=first.error, attempts=0))
    (second,) = decisions(stage)
    assert (second.task_id, second.error.detail) == (C, "b is failed")


def test_of_a_task_that_memory_does_not_hold_the_log_is_asked_once_in_a_while() -> None:
    stage = Stage()
    stage.tell(submitted(C, after=(A,)))
    assert questions(todo(stage.scene, stage.moment)) == [A]
    assert questions(todo(stage.scene, stage.moment)) == []
    stage.later(6)
    assert questions(todo(stage.scene, stage.moment)) == [A]
    stage.board.kin.learned(A, Ended(how="completed", body_hash="h"))
    assert decisions(stage) == [ReleaseTask(task_id=C)]


def test_what_is_heard_while_the_log_is_asked_is_newer() -> None:
    stage = Stage()
    stage.tell(submitted(C, after=(A,)))
    stage.tell(submitted(A))
    stage.board.kin.learned(A, Unknown())
    assert stage.board.kin.missing == set()
    stage.tell(completed(task_id=A))
    assert decisions(stage) == [ReleaseTask(task_id=C)]


def test_a_dependency_may_be_submitted_later_but_not_too_late() -> None:
    stage = Stage()
    stage.tell(submitted(C, after=(A, B)))
    for other in (A, B):
        stage.board.kin.asked([other], stage.mono)
        stage.board.kin.learned(other, Unknown())
    stage.tell(submitted(A))
    assert stage.board.kin.missing == {B}
    stage.utc += DEPENDENCY_KNOWN_WITHIN - timedelta(seconds=1)
    assert decisions(stage) == []
    stage.utc += timedelta(seconds=1)
    (told,) = decisions(stage)
    assert (told.task_id, told.error.code) == (C, "dependency_failed")
    assert told.error.detail == "b was never submitted"


def test_those_who_wait_for_each_other_fail_and_are_told_in_which_circle() -> None:
    stage = Stage()
    stage.tell(submitted(A, after=(B,)))
    stage.tell(submitted(B, after=(C, D)))
    assert decisions(stage) == []
    stage.tell(submitted(C, after=(A,)))
    told = {each.task_id: each.error for each in decisions(stage)}
    assert {error.code for error in told.values()} == {"dependency_cycle"}
    assert set(told) == {A, B, C}
    assert told[A].detail == "it would wait for itself: c after a after b after c"


def test_a_task_after_itself_fails() -> None:
    stage = Stage()
    stage.tell(submitted(A, after=(A,)))
    (told,) = decisions(stage)
    assert (told.task_id, told.error.code) == (A, "dependency_cycle")


def test_nothing_is_remembered_of_those_for_whom_nobody_waits_any_more() -> None:
    stage = Stage()
    stage.tell(submitted(A))
    stage.tell(submitted(C, after=(A, B)))
    stage.tell(completed(task_id=A))
    stage.board.kin.learned(B, Unknown())
    stage.tell(cancelled(C))
    kin = stage.board.kin
    kin.take_news()
    assert vars(kin) == vars(Kin())


# With everything around it.


async def test_it_begins_when_what_it_comes_after_is_done_and_says_why_it_waits(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.up("alpha")
        await shop.send(submit("a"))
        first = await shop.assigned("alpha", "a")
        await shop.send(submit("c", after=(A,)))

        assert (await shop.task("c")).state == "waiting"
        why = await shop.answers.get_why(GetWhy(task_id=C))
        assert (why.explanation, why.waits_for) == ("it comes after a (assigned)", "other_tasks")
        assert (await shop.answers.get_counts(GetCounts())).tasks == {"assigned": 1, "waiting": 1}

        await shop.send(report(done(), first.token, task_id="a"))
        second = await shop.assigned("alpha", "c")
        await shop.send(report(done(), second.token, task_id="c"))

        assert (await shop.task("c")).state == "completed"
        facts = [entry.fact for entry in (await shop.answers.get_timeline(GetTimeline(task_id=C))).entries]
        assert facts[:3] == ["TaskSubmitted", "DependenciesMet", "TaskAssigned"]


async def test_what_ended_before_a_restart_is_found_in_the_log(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await shop.send(submit("done"))
        await shop.send(submit("gone"))
        await shop.tasks.handle(assign(task_id="done"), CAUSE)
        token = await store.version("task", "done")
        await shop.send(report(done(), token, task_id="done"))
        await shop.send(CancelTask(task_id=TaskId("gone")))
        shop.owned = frozenset()  # the process is as good as dead: it decides nothing any more
        shop.orchestrator._look_at_ownership(frozenset(), shop.moment())
        await shop.send(submit("b", after=(TaskId("done"),)))
        await shop.send(submit("c", after=(TaskId("done"), TaskId("gone"))))
        await shop.send(submit("d", after=(TaskId("never"),)))
        await shop.follower.reached(await store.last_sequence())
    async with workshop(tmp_path, store) as shop:
        await shop.until(lambda: shop.is_in("b", "queued"))
        await shop.until(lambda: shop.is_in("c", "failed"))
        await shop.until(lambda: TaskId("never") in shop.scene.board.kin.missing)
        failed = await shop.task("c")
        assert failed.error == TaskError(code="dependency_failed", detail="gone is cancelled")
        why = await shop.answers.get_why(GetWhy(task_id=D))
        assert why.explanation.startswith("it comes after never (which nobody has submitted: it fails at ")


class Kindred(RuleBasedStateMachine):
    """Tasks are submitted and end in any order; in the end nobody waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.orders: dict[TaskId, Any] = {}
        self.ends: dict[TaskId, str] = {}
        self.released: set[TaskId] = set()

    @rule(
        name=st.sampled_from("abcdef"),
        after=st.lists(st.sampled_from("abcdef"), max_size=3, unique=True),
        policy=st.sampled_from(AfterPolicy),
    )
    def submit(self, name: str, after: list[str], policy: AfterPolicy) -> None:
        task_id = TaskId(name)
        if task_id not in self.orders:
            order = submitted(task_id, after=tuple(map(TaskId, after)), after_policy=policy)
            self.orders[task_id] = order
            self.stage.tell(order)

    @rule(name=st.sampled_from("abcdef"), how=st.sampled_from(["completed", "cancelled"]))
    def end(self, name: str, how: str) -> None:
        task_id = TaskId(name)
        state = self.stage.board.task(task_id)
        if isinstance(state, Unknown) or (how == "completed" and getattr(state, "dependent", False)):
            return
        self.ends[task_id] = how
        self.stage.tell(completed(task_id=task_id) if how == "completed" else cancelled(task_id))

    @rule()
    def look(self) -> None:
        """What is outstanding is done, as the owner does it."""
        for step in todo(self.stage.scene, self.stage.moment):
            if isinstance(step, Recall):
                known = step.task_id in self.orders
                how: Any = self.ends.get(step.task_id)
                state = Ended(how=how, body_hash="h") if how else Unknown()
                assert how or not known  # of those who live nobody asks
                self.stage.board.kin.learned(step.task_id, state)
            elif isinstance(step, Decide) and isinstance(step.command, FailDependent):
                self.ends[step.command.task_id] = "failed"
                failed = TaskFailed(task_id=step.command.task_id, error=step.command.error, attempts=0)
                self.check_failed(step.command)
                self.stage.tell(failed)
            elif isinstance(step, Decide) and isinstance(step.command, ReleaseTask):
                self.released.add(step.command.task_id)
                self.check_released(step.command.task_id)
                self.stage.tell(DependenciesMet(task_id=step.command.task_id))

    def check_released(self, task_id: TaskId) -> None:
        order = self.orders[task_id]
        ends = [self.ends.get(other) for other in order.after]
        asked = {"completed"} if order.after_policy is AfterPolicy.COMPLETED else {*self.ends.values()}
        assert all(end in asked for end in ends)

    def check_failed(self, command: FailDependent) -> None:
        order = self.orders[command.task_id]
        if command.error.code == "dependency_failed":
            assert order.after_policy is AfterPolicy.COMPLETED
            assert any(self.ends.get(other) not in (None, "completed") for other in order.after)

    @invariant()
    def whoever_waits_waits_for_somebody(self) -> None:
        """Either something is to be decided, or one of those it waits for has not ended, and is named."""
        board = self.stage.board
        for task_id, entry in board.tasks.items():
            if isinstance(entry.state, Waiting) and entry.state.dependent and task_id not in board.kin.ripe:
                unmet = board.kin.unmet(task_id)
                assert unmet
                assert all(self.ends.get(other) is None or other in board.kin._unsure for other in unmet)

    @invariant()
    def nobody_waits_in_a_circle(self) -> None:
        """From whoever waits undecided, following those he waits for comes to an end."""
        board = self.stage.board
        for start in list(board.kin._dependents):
            seen: set[TaskId] = set()
            path = [start]
            while path:
                here = path.pop()
                if here in board.kin.ripe:
                    continue
                for other in board.kin.unmet(here):
                    assert other != start
                    if other not in seen:
                        seen.add(other)
                        path.append(other)


TestKindred = Kindred.TestCase


class Trees(RuleBasedStateMachine):
    """Tasks spawn others and end in any way; the owner looks now and then, and is restarted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.orders: dict[TaskId, Any] = {}
        self.ends: dict[TaskId, str] = {}
        self.condemned: set[TaskId] = set()

    def living(self) -> list[TaskId]:
        return [task_id for task_id in self.orders if task_id not in self.ends]

    @rule(which=st.integers(0, 30), root=st.booleans())
    def begin(self, which: int, *, root: bool) -> None:
        living, ancestors = self.living(), ()
        if living and not root:
            parent = self.orders[living[which % len(living)]]
            ancestors = (*parent.ancestors, parent.task_id)
        order = submitted(f"t{len(self.orders):02}", ancestors=ancestors)
        self.orders[order.task_id] = order
        self.stage.tell(order)

    @rule(which=st.integers(0, 30), how=st.sampled_from(["completed", "completed", "failed", "cancelled"]))
    def end(self, which: int, how: str) -> None:
        if living := self.living():
            task_id = living[which % len(living)]
            self.ends[task_id] = how
            facts = {"completed": completed(task_id=task_id), "failed": gave_up(task_id)}
            self.stage.tell(facts.get(how, cancelled(task_id)))

    @rule(which=st.integers(0, 30))
    def cancel_tree(self, which: int) -> None:
        if done := [task_id for task_id, how in self.ends.items() if how == "completed"]:
            task_id = done[which % len(done)]
            if task_id not in self.condemned:
                self.condemned.add(task_id)
                self.stage.tell(TreeCancelled(task_id=task_id, reason="asked"))

    @rule()
    def restart(self) -> None:
        """Only what lives is read again, as it was told."""
        sequence, self.stage = self.stage.sequence, Stage()
        self.stage.sequence = sequence
        for task_id in self.living():
            self.stage.tell(self.orders[task_id])

    @rule()
    def look(self) -> None:
        """Until nothing is outstanding: then nobody lives whose tree is not wanted."""
        self.stage.later(6)
        while steps := [step for step in todo(self.stage.scene, self.stage.moment) if is_kin(step)]:
            for step in steps:
                if isinstance(step, Recall):
                    how: Any = self.ends[step.task_id]  # of those who live nobody asks
                    ended = Ended(how=how, body_hash="h", tree_cancelled=step.task_id in self.condemned)
                    self.stage.board.kin.learned(step.task_id, ended)
                elif isinstance(step, Decide) and step.command.key not in self.ends:
                    assert not self.is_wanted(TaskId(step.command.key))
                    self.ends[TaskId(step.command.key)] = "cancelled"
                    self.stage.tell(cancelled(TaskId(step.command.key)))
        assert all(self.is_wanted(task_id) for task_id in self.living())

    def is_wanted(self, task_id: TaskId) -> bool:
        return all(
            self.ends.get(other) in (None, "completed") and other not in self.condemned
            for other in self.orders[task_id].ancestors
        )

    @invariant()
    def the_board_holds_only_what_lives(self) -> None:
        assert set(self.stage.board.tasks) == set(self.living())
        assert set(self.stage.board.kin._descents) <= set(self.living())


def is_kin(step: Step) -> bool:
    return isinstance(step, Recall) or (isinstance(step, Decide) and isinstance(step.command, CancelOrphan))


TestTrees = Trees.TestCase
