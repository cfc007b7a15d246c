"""The life of a task: waiting, held by one bot under a fencing token, then ended, once.

Attempts that end badly are repeated as the task's policy says. An attempt whose end nobody knows is repeated
when that does no harm; where it might, a person is asked.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final, assert_never

import msgspec

from services.orchestrator.classify import classify
from services.orchestrator.commands import (
    AssignTask,
    CancelOrphan,
    ExpireTask,
    FailDependent,
    LoseAttempt,
    NoteTaskStarted,
    PlaceTask,
    RefuseSpawn,
    ReleaseTask,
    TaskWish,
    WithdrawAssignment,
)
from services.orchestrator.decider.task_state import Blocked, Ended, Held, Task, Unknown, Waiting, evolve
from services.orchestrator.facts import TaskEvent
from shared.contracts.orchestrator.commands import (
    CancelTask,
    ClaimTask,
    Done,
    ReportTask,
    ResumeTask,
    SpawnTask,
    Stopped,
    SubmitTask,
    Undone,
)
from shared.contracts.orchestrator.facts import (
    AssignmentWithdrawn,
    AttemptFailed,
    AttemptLost,
    DependenciesMet,
    TaskAssigned,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskSubmitted,
    TreeCancelled,
)
from shared.contracts.words import BotId, SideEffects, TaskId
from shared.kernel.backoff import backoff, spread
from shared.kernel.codec import encode
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected


def decide(task: Task, command: TaskWish, at: datetime) -> list[TaskEvent]:
    """The facts that follow from a command, none if it is already so."""
    match command:
        case SubmitTask():
            return _submit(task, command, at)
        case SpawnTask():
            return _spawned_again(task, command)
        case RefuseSpawn():
            raise Rejected(command.code, command.detail)
        case PlaceTask():
            return _place(task, command, at)
        case CancelTask():
            return _cancel(task, command)
        case CancelOrphan():
            wish = CancelTask(task_id=command.task_id, reason=command.reason)
            return _cancel(task, wish) if isinstance(task, Waiting | Held | Blocked) else []
        case ResumeTask():
            return _resume(task, command)
        case ClaimTask():
            return _claim(task, command, at)
        case ReportTask():
            return _report(task, command, at)
        case AssignTask():
            return _assign(task, command, at)
        case WithdrawAssignment():
            return _withdraw(task, command)
        case NoteTaskStarted():
            return _note_started(task, command)
        case LoseAttempt():
            return _lose_held(task, command, at)
        case ExpireTask():
            return _expire(task, command, at)
        case ReleaseTask():
            return [DependenciesMet(task_id=command.task_id)] if _is_dependent(task) else []
        case FailDependent():
            failed = TaskFailed(task_id=command.task_id, error=command.error, attempts=0)
            return [failed] if _is_dependent(task) else []
        case _:
            assert_never(command)


def _submit(task: Task, command: SubmitTask, at: datetime) -> list[TaskEvent]:
    match task:
        case Unknown():
            return _submitted(command, at)
        case Waiting() | Held() | Blocked():
            return _asked_again(command.task_id, command.body_hash, task.order.body_hash)
        case Ended():
            return _asked_again(command.task_id, command.body_hash, task.body_hash)
        case _:
            assert_never(task)


def _spawned_again(task: Task, command: SpawnTask) -> list[TaskEvent]:
    """What is new was prepared: it comes as a submission, with all that its parent gives it."""
    match task:
        case Unknown():
            raise _stale(command.parent, command.token)
        case Waiting() | Held() | Blocked():
            return _asked_again(command.task_id, spawn_hash(command), task.order.body_hash)
        case Ended():
            return _asked_again(command.task_id, spawn_hash(command), task.body_hash)
        case _:
            assert_never(task)


def spawn_hash(command: SpawnTask) -> str:
    """What a spawned task has in common whichever attempt of its parent asks for it."""
    return sha256(encode(msgspec.structs.replace(command, bot_id=BotId(""), token=0))).hexdigest()


def _submitted(command: SubmitTask, at: datetime) -> list[TaskEvent]:
    kind, reason = (command.type, "given") if command.type is not None else classify(command.content)
    submitted = TaskSubmitted(
        task_id=command.task_id,
        type=kind,
        type_reason=reason,
        content=command.content,
        priority=command.priority,
        submitter=command.submitter,
        body_hash=command.body_hash,
        timeout_s=command.timeout_s,
        input=command.input,
        input_file=command.input_file,
        engine=command.engine,
        bot=command.bot,
        pool=command.pool,
        deadline=command.deadline,
        retry=command.retry,
        after=command.after,
        after_policy=command.after_policy,
        ancestors=command.ancestors,
        spawned_by=command.spawned_by,
    )
    if command.deadline is not None and command.deadline <= at:
        return [submitted, TaskExpired(task_id=command.task_id, deadline=command.deadline)]
    return [submitted]


def _asked_again(task_id: TaskId, asked: str, known: str) -> list[TaskEvent]:
    if asked == known:
        return []
    raise Rejected("idempotency_key_reused", f"{task_id} was submitted with another body")


def _place(task: Task, command: PlaceTask, at: datetime) -> list[TaskEvent]:
    facts = _submit(task, command.submit, at)
    if len(facts) != 1 or command.submit.after:  # already so, or expired as it came, or not to be begun yet
        return facts
    return [
        *facts,
        TaskAssigned(task_id=command.task_id, bot_id=command.bot_id, attempt=1, decision=command.decision),
    ]


def _assign(task: Task, command: AssignTask, at: datetime) -> list[TaskEvent]:
    match task:
        case Waiting() if task.order.deadline is not None and task.order.deadline <= at:
            return [TaskExpired(task_id=command.task_id, deadline=task.order.deadline)]
        case Waiting(dependent=False) if task.retry_at is None or task.retry_at <= at:
            return [
                TaskAssigned(
                    task_id=command.task_id,
                    bot_id=command.bot_id,
                    attempt=task.attempts + 1,
                    decision=command.decision,
                )
            ]
        case Unknown() | Waiting() | Held() | Blocked() | Ended():
            return []
        case _:
            assert_never(task)


def _cancel(task: Task, command: CancelTask) -> list[TaskEvent]:
    match task:
        case Unknown():
            raise _not_found(command.task_id)
        case Ended(how="cancelled"):
            return []
        case Ended(how="completed", tree_cancelled=False) if command.tree:
            return [TreeCancelled(task_id=command.task_id, reason=command.reason)]
        case Ended() if command.tree:
            return []  # all that descends from it is cancelled, since it ended so
        case Ended():
            raise Rejected("task_ended", f"{command.task_id} is {task.how}: there is nothing to cancel")
        case Held():
            return [TaskCancelled(task_id=command.task_id, reason=command.reason, bot_id=task.bot_id)]
        case Waiting() | Blocked():
            return [TaskCancelled(task_id=command.task_id, reason=command.reason)]
        case _:
            assert_never(task)


def _resume(task: Task, command: ResumeTask) -> list[TaskEvent]:
    match task:
        case Unknown():
            raise _not_found(command.task_id)
        case Ended():
            raise Rejected("task_ended", f"{command.task_id} is {task.how}: there is nothing to resume")
        case Blocked():
            return [TaskResumed(task_id=command.task_id)]
        case Waiting() | Held():
            return []
        case _:
            assert_never(task)


def _claim(task: Task, command: ClaimTask, at: datetime) -> list[TaskEvent]:
    match task:
        case Held(token=command.token, bot_id=command.bot_id):
            if task.order.deadline is not None and task.order.deadline <= at:
                raise Rejected(
                    "deadline_passed", f"{command.task_id} had to be done by {task.order.deadline}"
                )
            return [] if task.started else [_started(task)]
        case Ended(token=command.token):
            raise Rejected("task_ended", f"{command.task_id} is {task.how}")
        case Unknown() | Waiting() | Held() | Blocked() | Ended():
            raise _stale(command.task_id, command.token)
        case _:
            assert_never(task)


def _report(task: Task, command: ReportTask, at: datetime) -> list[TaskEvent]:
    match task:
        case Held(token=command.token, bot_id=command.bot_id):
            return _end_attempt(task, command, at)
        case Waiting(reported=command.token) | Blocked(reported=command.token) | Ended(token=command.token):
            return []
        case Unknown():
            raise _not_found(command.task_id)
        case Waiting() | Held() | Blocked() | Ended():
            raise _stale(command.task_id, command.token)
        case _:
            assert_never(task)


def _end_attempt(task: Held, command: ReportTask, at: datetime) -> list[TaskEvent]:
    begun: list[TaskEvent] = [] if task.started else [_started(task)]
    match command.end:
        case Done():
            completed = TaskCompleted(
                task_id=command.task_id,
                bot_id=command.bot_id,
                token=command.token,
                attempt=task.attempts + 1,
                started_at=command.started_at,
                ended_at=command.ended_at,
                output=command.end.output,
                usage=command.end.usage,
            )
            return [*begun, completed]
        case Undone():
            return [*begun, *_fail(task, command, command.end, at)]
        case Stopped(begun=False):
            return [
                AssignmentWithdrawn(
                    task_id=command.task_id,
                    bot_id=command.bot_id,
                    token=command.token,
                    reason=command.end.reason,
                )
            ]
        case Stopped():
            return [*begun, *_lose(task, command.end.reason, at, may_have_acted=True)]
        case _:
            assert_never(command.end)


def _fail(task: Held, command: ReportTask, end: Undone, at: datetime) -> list[TaskEvent]:
    attempt = task.attempts + 1
    again = end.retryable and attempt < task.allowed
    failed = AttemptFailed(
        task_id=command.task_id,
        bot_id=command.bot_id,
        token=command.token,
        attempt=attempt,
        error=end.error,
        started_at=command.started_at,
        ended_at=command.ended_at,
        output=end.output,
        usage=end.usage,
        retry_at=_retry_at(task, at) if again else None,
        retryable=end.retryable,
    )
    if again:
        return [failed]
    return [failed, TaskFailed(task_id=command.task_id, error=end.error, attempts=attempt)]


def _lose_held(task: Task, command: LoseAttempt, at: datetime) -> list[TaskEvent]:
    if isinstance(task, Held) and task.token == command.token:
        return _lose(task, command.reason, at, may_have_acted=task.started)
    return []


def _lose(task: Held, reason: str, at: datetime, *, may_have_acted: bool) -> list[TaskEvent]:
    """The attempt's end is unknown. Work that must not run twice, and may have run, waits for a person."""
    task_id, attempt = task.order.task_id, task.attempts + 1
    ask = may_have_acted and task.order.retry.side_effects is SideEffects.ASK
    again = not ask and attempt < task.allowed
    lost = AttemptLost(
        task_id=task_id,
        bot_id=task.bot_id,
        token=task.token,
        attempt=attempt,
        reason=reason,
        retry_at=_retry_at(task, at) if again else None,
    )
    if ask:
        why = f"attempt {attempt} on {task.bot_id} has no known end ({reason}): run it again?"
        return [lost, TaskBlocked(task_id=task_id, reason=why)]
    if again:
        return [lost]
    error = TaskError(code="attempts_lost", detail=f"attempt {attempt}, the last, was lost: {reason}")
    return [lost, TaskFailed(task_id=task_id, error=error, attempts=attempt)]


def _withdraw(task: Task, command: WithdrawAssignment) -> list[TaskEvent]:
    if isinstance(task, Held) and task.token == command.token and not task.started:
        return [
            AssignmentWithdrawn(
                task_id=command.task_id, bot_id=task.bot_id, token=task.token, reason=command.reason
            )
        ]
    return []


def _note_started(task: Task, command: NoteTaskStarted) -> list[TaskEvent]:
    """Only a claim says that work which must not run twice has begun."""
    match task:
        case Held(token=command.token, started=False) if task.order.retry.side_effects is not SideEffects.ASK:
            return [_started(task)]
        case Unknown() | Waiting() | Held() | Blocked() | Ended():
            return []
        case _:
            assert_never(task)


def _expire(task: Task, command: ExpireTask, at: datetime) -> list[TaskEvent]:
    if isinstance(task, Unknown | Ended) or task.order.deadline is None or task.order.deadline > at:
        return []
    bot_id = task.bot_id if isinstance(task, Held) else None
    return [TaskExpired(task_id=command.task_id, deadline=task.order.deadline, bot_id=bot_id)]


def _is_dependent(task: Task) -> bool:
    return isinstance(task, Waiting) and task.dependent


def _started(task: Held) -> TaskStarted:
    return TaskStarted(task_id=task.order.task_id, bot_id=task.bot_id, token=task.token)


def _retry_at(task: Held, at: datetime) -> datetime:
    policy, attempt = task.order.retry, task.attempts + 1
    wait = backoff(policy.backoff_first_s, policy.backoff_max_s, attempt)
    return at + spread(wait, task.order.task_id, str(attempt))


def _not_found(task_id: str) -> Rejected:
    return Rejected("task_not_found", f"there is no task {task_id}")


def _stale(task_id: str, token: int) -> Rejected:
    return Rejected("stale_token", f"attempt {token} of {task_id} is not the current one")


TASK: Final = Decider[Task, TaskWish, TaskEvent](initial=Unknown(), evolve=evolve, decide=decide)
