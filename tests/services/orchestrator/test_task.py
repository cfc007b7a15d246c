"""The rules of a task's life."""

from datetime import timedelta

import pytest

from services.orchestrator.commands import ExpireTask, LoseAttempt, NoteTaskStarted, WithdrawAssignment
from shared.contracts.orchestrator.commands import CancelTask, ClaimTask, ResumeTask
from shared.contracts.orchestrator.facts import (
    AttemptFailed,
    AttemptLost,
    RetryPolicy,
    TaskAssigned,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskSubmitted,
)
from shared.contracts.words import TaskType
from shared.kernel.backoff import backoff, spread
from tests.services.orchestrator.builders import (
    ALPHA,
    ASK,
    BETA,
    ERROR,
    ONCE,
    SECOND,
    T1,
    assign,
    assigned,
    done,
    failed,
    lost,
    place,
    report,
    started,
    stopped,
    submit,
    submitted,
    task,
    undone,
    withdrawn,
)
from tests.support.scenario import NOON

CANCELLED = TaskCancelled(task_id=T1, reason="asked")
LOSE = LoseAttempt(task_id=T1, token=2, reason="bot_silent")
CLAIM = ClaimTask(task_id=T1, bot_id=ALPHA, token=2)
BLOCKED = TaskBlocked(task_id=T1, reason="look")


def test_a_task_is_submitted_with_everything_that_was_asked() -> None:
    task().when(submit()).then(submitted())


def test_a_task_without_a_type_gets_one_from_its_text_and_says_why() -> None:
    (fact,) = task().when(submit(type=None, content="run the tests")).then_kinds(TaskSubmitted)

    assert isinstance(fact, TaskSubmitted)
    assert (fact.type, fact.type_reason) == (TaskType.TESTING, 'the text says "tests"')


def test_a_task_goes_to_a_free_bot_in_the_same_commit() -> None:
    task().when(place(submit())).then(submitted(), assigned())


def test_the_same_task_submitted_twice_is_already_so() -> None:
    task(submitted()).when(submit()).then_nothing()
    task((submitted(), assigned())).when(place(submit())).then_nothing()
    task(submitted(), CANCELLED).when(submit()).then_nothing()


def test_the_same_key_with_another_body_is_refused() -> None:
    task(submitted()).when(submit(body_hash="h2")).then_rejected("idempotency_key_reused")
    task(submitted(), CANCELLED).when(submit(body_hash="h2")).then_rejected("idempotency_key_reused")


def test_a_task_that_comes_after_its_deadline_is_recorded_and_expires() -> None:
    expired = TaskExpired(task_id=T1, deadline=NOON)
    task().when(submit(deadline=NOON)).then(submitted(deadline=NOON), expired)
    task().when(place(submit(deadline=NOON))).then(submitted(deadline=NOON), expired)


def test_a_waiting_task_goes_to_the_bot_that_was_chosen() -> None:
    task(submitted()).when(assign()).then(assigned())


def test_a_task_that_a_bot_has_is_not_given_away() -> None:
    task(submitted(), assigned()).when(assign(BETA)).then_nothing()


def test_a_retry_waits_until_it_is_due() -> None:
    past = task(submitted(), assigned(), failed(retry_at=NOON + SECOND))
    past.when(assign(BETA)).then_nothing()
    past.when(assign(BETA), at=NOON + SECOND).then(assigned(BETA, attempt=2))


def test_assigning_a_task_whose_deadline_passed_expires_it() -> None:
    task(submitted(deadline=NOON)).when(assign()).then(TaskExpired(task_id=T1, deadline=NOON))


def test_a_finished_attempt_completes_the_task_and_says_that_it_had_started() -> None:
    task(submitted(), assigned()).when(report(done())).then_kinds(TaskStarted, TaskCompleted)


def test_a_task_that_was_started_does_not_start_again_at_its_end() -> None:
    task(submitted(), assigned(), started()).when(report(done())).then_kinds(TaskCompleted)


def test_a_report_repeated_after_the_end_is_already_so() -> None:
    ended = task().when(place(submit())).answer
    assert isinstance(ended, list)
    past = task(
        tuple(ended),
        tuple(task(tuple(ended)).when(report(done(), token=1)).then_kinds(TaskStarted, TaskCompleted)),
    )
    past.when(report(done(), token=1)).then_nothing()


def test_a_late_report_with_an_old_token_is_refused() -> None:
    past = task(submitted(), assigned(), lost(), assigned(BETA, attempt=2))
    past.when(report(done(), token=2)).then_rejected("stale_token")
    past.when(report(done(), token=4, bot_id=BETA)).then_kinds(TaskStarted, TaskCompleted)


def test_a_report_of_a_lost_attempt_is_refused_while_the_task_waits_again() -> None:
    task(submitted(), assigned(), lost()).when(report(done())).then_rejected("stale_token")


def test_a_report_of_the_lost_last_attempt_is_refused() -> None:
    last = (lost(retry_at=None), TaskFailed(task_id=T1, error=ERROR, attempts=1))
    task(submitted(retry=ONCE), assigned(), last).when(report(done())).then_rejected("stale_token")


def test_another_bot_cannot_report_with_the_right_token() -> None:
    task(submitted(), assigned()).when(report(done(), bot_id=BETA)).then_rejected("stale_token")


def test_a_report_about_an_unknown_task_is_refused() -> None:
    task().when(report(done())).then_rejected("task_not_found")


def test_a_report_after_a_cancel_changes_nothing() -> None:
    task(submitted(), assigned(), CANCELLED).when(report(done())).then_nothing()


def test_a_failed_attempt_is_tried_again_after_a_while() -> None:
    _, fact = task(submitted(), assigned()).when(report(undone())).then_kinds(TaskStarted, AttemptFailed)

    assert isinstance(fact, AttemptFailed)
    assert fact.retry_at is not None
    assert NOON + 0.5 * SECOND <= fact.retry_at <= NOON + SECOND


def test_a_failure_reported_twice_counts_once() -> None:
    task(submitted(), assigned(), failed()).when(report(undone())).then_nothing()


def test_a_failure_that_would_repeat_ends_the_task() -> None:
    past = task(submitted(), assigned(), started())
    past.when(report(undone(retryable=False))).then(
        failed(retry_at=None, retryable=False), TaskFailed(task_id=T1, error=ERROR, attempts=1)
    )


def test_the_last_attempt_that_fails_ends_the_task() -> None:
    past = task(submitted(retry=ONCE), assigned(), started())
    past.when(report(undone())).then(failed(retry_at=None), TaskFailed(task_id=T1, error=ERROR, attempts=1))


@pytest.mark.parametrize("past", [(submitted(), assigned()), (submitted(), assigned(), started())])
def test_a_lost_attempt_is_repeated_where_that_does_no_harm(past: tuple[TaskSubmitted, ...]) -> None:
    (fact,) = task(*past).when(LOSE).then_kinds(AttemptLost)

    assert isinstance(fact, AttemptLost)
    assert fact.retry_at is not None


def test_the_last_attempt_that_is_lost_ends_the_task() -> None:
    task(submitted(retry=ONCE), assigned()).when(LOSE).then_kinds(AttemptLost, TaskFailed)


def test_work_that_may_not_run_twice_waits_for_a_person_when_it_was_lost_after_its_claim() -> None:
    past = task(submitted(retry=ASK), assigned(), started())
    past.when(LOSE).then_kinds(AttemptLost, TaskBlocked)
    past.when(report(stopped(begun=True))).then_kinds(AttemptLost, TaskBlocked)


def test_work_that_may_not_run_twice_is_repeated_when_it_was_never_claimed() -> None:
    (fact,) = task(submitted(retry=ASK), assigned()).when(LOSE).then_kinds(AttemptLost)

    assert isinstance(fact, AttemptLost)
    assert fact.retry_at is not None


def test_an_attempt_that_never_began_is_no_attempt() -> None:
    task(submitted(), assigned()).when(report(stopped(begun=False))).then(withdrawn(reason="shut down"))
    task(submitted(), assigned(), withdrawn()).when(assign(BETA)).then(assigned(BETA, attempt=1))


def test_a_bot_that_stops_midway_loses_the_attempt() -> None:
    task(submitted(), assigned()).when(report(stopped(begun=True))).then_kinds(TaskStarted, AttemptLost)


def test_losing_another_attempt_than_the_current_one_changes_nothing() -> None:
    task(submitted(), assigned(), withdrawn(), assigned(BETA)).when(LOSE).then_nothing()


def test_an_assignment_that_was_not_taken_is_withdrawn() -> None:
    withdraw = WithdrawAssignment(task_id=T1, token=2, reason="not_taken")
    task(submitted(), assigned()).when(withdraw).then(withdrawn())
    task(submitted(), assigned(), started()).when(withdraw).then_nothing()
    task(submitted(), assigned(), withdrawn()).when(withdraw).then_nothing()


def test_a_task_that_outlives_its_first_heartbeat_has_started() -> None:
    note = NoteTaskStarted(task_id=T1, token=2)
    task(submitted(), assigned()).when(note).then(started())
    task(submitted(), assigned(), started()).when(note).then_nothing()
    task(submitted(), assigned(), withdrawn()).when(note).then_nothing()


def test_only_its_claim_says_that_work_that_may_not_run_twice_has_begun() -> None:
    past = task(submitted(retry=ASK), assigned())
    past.when(NoteTaskStarted(task_id=T1, token=2)).then_nothing()
    past.when(CLAIM).then(started())


def test_a_claim_asked_twice_is_already_so() -> None:
    task(submitted(retry=ASK), assigned(), started()).when(CLAIM).then_nothing()


def test_a_claim_is_refused_when_the_work_is_no_longer_the_bots() -> None:
    task(submitted(retry=ASK), assigned(), withdrawn()).when(CLAIM).then_rejected("stale_token")
    task(submitted(retry=ASK), assigned(), CANCELLED).when(CLAIM).then_rejected("task_ended")
    task().when(CLAIM).then_rejected("stale_token")


def test_a_claim_after_the_deadline_is_refused() -> None:
    task(submitted(retry=ASK, deadline=NOON), assigned()).when(CLAIM).then_rejected("deadline_passed")


@pytest.mark.parametrize(
    ("past", "bot_id"),
    [
        ((submitted(),), None),
        ((submitted(), assigned()), ALPHA),
        ((submitted(), assigned(), (lost(), BLOCKED)), None),
    ],
)
def test_a_task_can_be_cancelled_at_any_moment_before_its_end(
    past: tuple[TaskSubmitted, ...], bot_id: str | None
) -> None:
    task(*past).when(CancelTask(task_id=T1)).then(TaskCancelled(task_id=T1, reason="asked", bot_id=bot_id))


def test_cancelling_twice_is_already_so_and_cancelling_what_is_done_is_refused() -> None:
    task(submitted(), CANCELLED).when(CancelTask(task_id=T1)).then_nothing()
    expired = TaskExpired(task_id=T1, deadline=NOON)
    task(submitted(), expired).when(CancelTask(task_id=T1)).then_rejected("task_ended")
    task().when(CancelTask(task_id=T1)).then_rejected("task_not_found")


def test_a_blocked_task_runs_again_when_a_person_says_so() -> None:
    past = (submitted(retry=ASK), assigned(), started(), (lost(retry_at=None), BLOCKED))
    task(*past).when(ResumeTask(task_id=T1)).then(TaskResumed(task_id=T1))
    task(*past, TaskResumed(task_id=T1)).when(assign(BETA)).then(assigned(BETA, attempt=2))
    task(*past).when(assign(BETA)).then_nothing()


def test_a_person_who_resumes_allows_one_attempt_more_than_the_policy() -> None:
    policy = RetryPolicy(attempts_max=1, side_effects=ASK.side_effects)
    past = (
        submitted(retry=policy),
        assigned(),
        started(),
        (lost(retry_at=None), BLOCKED),
        TaskResumed(task_id=T1),
    )
    task(*past).when(assign(BETA)).then(assigned(BETA, attempt=2))


def test_resuming_what_is_not_blocked_changes_nothing_or_is_refused() -> None:
    task(submitted()).when(ResumeTask(task_id=T1)).then_nothing()
    task(submitted(), CANCELLED).when(ResumeTask(task_id=T1)).then_rejected("task_ended")
    task().when(ResumeTask(task_id=T1)).then_rejected("task_not_found")


def test_a_task_expires_at_its_deadline_also_while_it_runs() -> None:
    expire = ExpireTask(task_id=T1)
    task(submitted(deadline=NOON)).when(expire).then(TaskExpired(task_id=T1, deadline=NOON))
    task(submitted(deadline=NOON), assigned(), started()).when(expire).then(
        TaskExpired(task_id=T1, deadline=NOON, bot_id=ALPHA)
    )
    task(submitted(deadline=NOON + SECOND)).when(expire).then_nothing()
    task(submitted()).when(expire).then_nothing()


def test_the_token_is_the_sequence_of_the_commit_that_assigned() -> None:
    assert isinstance(assigned(), TaskAssigned)
    task(submitted(), withdrawn(), assigned()).when(report(done(), token=3)).then_kinds(
        TaskStarted, TaskCompleted
    )


def test_the_wait_doubles_up_to_its_limit_and_is_spread() -> None:
    assert [backoff(1, 30, times).total_seconds() for times in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert timedelta(seconds=30) == backoff(1, 30, 5_000)
    waits = {spread(timedelta(seconds=1), "t", str(number)) for number in range(100)}
    assert all(timedelta(seconds=0.5) <= wait <= timedelta(seconds=1) for wait in waits)
    assert len(waits) > 90
