"""What is alive, seen from our own commits and from the log."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.board import Board
from services.orchestrator.decider.task_state import Ended, Held, Unknown, Waiting, state_name
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.facts import TaskCancelled, TaskFailed
from shared.contracts.words import TaskId
from tests.services.orchestrator.builders import (
    ALPHA,
    BETA,
    ERROR,
    SECOND,
    T1,
    assigned,
    came_up,
    commit,
    failed,
    launched,
    lost,
    started,
    submitted,
    withdrawn,
)
from tests.services.orchestrator.scenes import ALL, Stage
from tests.support.scenario import NOON

CANCELLED = TaskCancelled(task_id=T1, reason="asked")


def test_an_own_commit_counts_at_once_and_once() -> None:
    board = Board()
    assert board.own_task(commit(1, submitted(), assigned())) is not None
    assert isinstance(board.task(T1), Held)
    assert board.followed_task(commit(1, submitted(), assigned())) is None
    assert board.held[ALPHA] == {T1: 1}


def test_an_own_commit_that_the_log_told_first_changes_nothing() -> None:
    board = Board()
    board.followed_task(commit(1, submitted()))
    assert board.own_task(commit(1, submitted())) is None


def test_what_another_wrote_in_between_is_put_under_what_we_wrote() -> None:
    board = Board()
    board.followed_task(commit(1, submitted()))
    board.own_task(commit(9, assigned(BETA, attempt=2)))  # we have not heard of 4 and 5 yet
    board.followed_task(commit(4, assigned()))
    board.followed_task(commit(5, failed(token=4, retry_at=NOON)))
    board.followed_task(commit(9, assigned(BETA, attempt=2)))

    task = board.task(T1)
    assert isinstance(task, Held)
    assert (task.bot_id, task.token, task.attempts) == (BETA, 9, 1)
    assert board.held[ALPHA] == {}


def test_a_task_that_ended_leaves_the_board_when_the_log_has_told_so() -> None:
    board = Board()
    board.followed_task(commit(1, submitted()))
    board.own_task(commit(2, CANCELLED))
    assert isinstance(board.task(T1), Ended)
    board.followed_task(commit(2, CANCELLED))
    assert isinstance(board.task(T1), Unknown)
    assert board.counts["cancelled"] == 1
    assert board.own_task(commit(2, CANCELLED)) is None
    assert isinstance(board.task(T1), Unknown)


def test_a_slot_is_free_until_it_is_held_or_reserved() -> None:
    stage = Stage()
    stage.up("alpha")
    assert stage.board.free(ALPHA) == 3
    stage.board.reserve(TaskId("t2"), ALPHA)
    stage.tell(submitted(), assigned())
    assert stage.board.free(ALPHA) == 1
    stage.board.release(TaskId("t2"))
    stage.board.release(TaskId("t2"))
    assert stage.board.free(ALPHA) == 2


def test_the_commit_takes_the_place_of_the_reservation() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.board.reserve(T1, ALPHA)
    stage.tell(submitted(), assigned())
    assert stage.board.free(ALPHA) == 2


def test_a_task_whose_assignment_was_not_decided_waits_on() -> None:
    stage = Stage()
    stage.tell(submitted())
    stage.board.reserve(T1, ALPHA)
    assert T1 not in stage.board.lines
    stage.board.release(T1)
    assert T1 in stage.board.lines


def test_a_retry_stands_in_line_when_it_is_due() -> None:
    stage = Stage()
    stage.tell(submitted())
    stage.tell(assigned())
    stage.tell(failed(retry_at=NOON + SECOND))
    assert T1 not in stage.board.lines
    assert not stage.board.due_retries(NOON)
    assert stage.board.due_retries(NOON + SECOND)
    assert T1 in stage.board.lines


def test_only_the_tasks_of_our_partitions_stand_in_our_lines() -> None:
    stage = Stage(owned=ALL - {partition_of(T1)})
    stage.tell(submitted())
    assert len(stage.board.lines) == 0
    stage.board.own_partitions(ALL)
    assert len(stage.board.lines) == 1
    stage.board.own_partitions(frozenset())
    assert len(stage.board.lines) == 0


def test_retries_of_gained_partitions_come_due() -> None:
    stage = Stage(owned=frozenset())
    stage.tell(submitted())
    stage.tell(assigned())
    stage.tell(lost(retry_at=NOON + SECOND))
    stage.board.own_partitions(ALL)
    assert stage.board.due_retries(NOON + SECOND)


def test_open_tasks_past_their_deadline_are_overdue_until_they_end() -> None:
    stage = Stage()
    stage.tell(submitted(deadline=NOON + SECOND))
    assert stage.board.overdue(NOON) == []
    assert stage.board.overdue(NOON + SECOND) == [T1]
    assert stage.board.overdue(NOON + SECOND) == [T1]
    stage.tell(CANCELLED)
    assert stage.board.overdue(NOON + SECOND) == []


def test_tasks_are_counted_by_state() -> None:
    stage = Stage()
    stage.tell(submitted())
    assert +stage.board.counts == {"queued": 1}
    stage.tell(assigned())
    stage.tell(started())
    assert +stage.board.counts == {"running": 1}
    stage.tell(lost(retry_at=None), TaskFailed(task_id=T1, error=ERROR, attempts=1))
    assert +stage.board.counts == {"failed": 1}


PAST = [
    (submitted(),),
    (assigned(),),
    (withdrawn(),),
    (assigned(BETA),),
    (started(4, BETA),),
    (failed(token=4, retry_at=NOON),),
    (assigned(attempt=2),),
]


@given(st.lists(st.booleans(), min_size=len(PAST), max_size=len(PAST)), st.lists(st.booleans(), max_size=20))
def test_however_own_commits_and_the_log_interleave_the_end_is_the_same(
    ours: list[bool], follow_now: list[bool]
) -> None:
    commits = [commit(number, *facts) for number, facts in enumerate(PAST, 1)]
    board, told = Board(), 0
    when = iter(follow_now)
    for index, each in enumerate(commits):
        if ours[index]:
            board.own_task(each)
        if next(when, False):
            while told <= index:
                board.followed_task(commits[told])
                told += 1
    for each in commits[told:]:
        board.followed_task(each)
    plain = Board()
    for each in commits:
        plain.followed_task(each)

    assert board.task(T1) == plain.task(T1)
    assert {bot: held for bot, held in board.held.items() if held} == {ALPHA: {T1: 7}}
    assert +board.counts == +plain.counts


def test_a_bot_that_came_up_is_known_with_its_token() -> None:
    board = Board()
    board.followed_bot(commit(1, launched()))
    change = board.own_bot(commit(2, came_up()))
    assert change is not None
    assert board.followed_bot(commit(2, came_up())) is None
    assert board.fleet == 2


def test_states_have_the_words_that_everybody_uses() -> None:
    order = submitted()
    waiting = Waiting(order=order, since=NOON, attempts=0, allowed=3)
    assert state_name(waiting) == "queued"
    again = Waiting(order=order, since=NOON, attempts=1, allowed=3, retry_at=NOON + timedelta(seconds=1))
    assert state_name(again) == "retrying"
