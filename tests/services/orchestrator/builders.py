"""Tasks, bots and what is said about them, with everything that does not matter filled in."""

from datetime import datetime, timedelta
from typing import Any

from services.orchestrator.commands import AssignTask, PlaceTask
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.decider.bot_state import Bot
from services.orchestrator.decider.task_state import Task
from services.orchestrator.facts import BotEvent, TaskEvent
from shared.contracts.orchestrator.commands import Done, End, ReportTask, Stopped, SubmitTask, Undone
from shared.contracts.orchestrator.facts import (
    AssignmentWithdrawn,
    AttemptFailed,
    AttemptLost,
    BotCameUp,
    BotDied,
    BotLaunched,
    BotRestarted,
    BotRetired,
    BotSpec,
    BotStopRequested,
    BotWentSilent,
    Candidate,
    Decision,
    Output,
    RetryPolicy,
    TaskAssigned,
    TaskCompleted,
    TaskError,
    TaskStarted,
    TaskSubmitted,
)
from shared.contracts.words import BotId, Priority, SideEffects, TaskId, TaskType
from shared.kernel.messages import Cause, Recorded
from tests.support.scenario import NOON, Given, given

T1 = TaskId("t1")
ALPHA = BotId("alpha")
BETA = BotId("beta")
SECOND = timedelta(seconds=1)
DECISION = Decision(candidates=[Candidate(bot_id=ALPHA, free=3)], candidates_total=1)
ERROR = TaskError(code="exit", detail="exit code 1")
ASK = RetryPolicy(side_effects=SideEffects.ASK)
ONCE = RetryPolicy(attempts_max=1)
ECHO = BotSpec(engine="echo")


def submitted(task_id: str = T1, **changes: Any) -> TaskSubmitted:
    fields: dict[str, Any] = {
        "task_id": task_id,
        "type": TaskType.CODE,
        "type_reason": "given",
        "content": "fix it",
        "priority": Priority.P2,
        "submitter": "key-1",
        "body_hash": "h1",
        "timeout_s": 60.0,
    }
    return TaskSubmitted(**fields | changes)


def submit(task_id: str = T1, **changes: Any) -> SubmitTask:
    fields: dict[str, Any] = {
        "task_id": task_id,
        "content": "fix it",
        "body_hash": "h1",
        "submitter": "key-1",
        "type": TaskType.CODE,
        "timeout_s": 60.0,
    }
    return SubmitTask(**fields | changes)


def place(submission: SubmitTask, bot_id: str = ALPHA) -> PlaceTask:
    return PlaceTask(task_id=submission.task_id, submit=submission, bot_id=BotId(bot_id), decision=DECISION)


def assigned(bot_id: str = ALPHA, attempt: int = 1, task_id: str = T1) -> TaskAssigned:
    return TaskAssigned(task_id=TaskId(task_id), bot_id=BotId(bot_id), attempt=attempt, decision=DECISION)


def assign(bot_id: str = ALPHA, task_id: str = T1) -> AssignTask:
    return AssignTask(task_id=TaskId(task_id), bot_id=BotId(bot_id), decision=DECISION)


def started(token: int = 2, bot_id: str = ALPHA, task_id: str = T1) -> TaskStarted:
    return TaskStarted(task_id=TaskId(task_id), bot_id=BotId(bot_id), token=token)


def withdrawn(token: int = 2, reason: str = "not_taken", bot_id: str = ALPHA) -> AssignmentWithdrawn:
    return AssignmentWithdrawn(task_id=T1, bot_id=BotId(bot_id), token=token, reason=reason)


def failed(
    token: int = 2,
    attempt: int = 1,
    retry_at: datetime | None = NOON,
    error: TaskError = ERROR,
    *,
    task_id: str = T1,
    bot_id: str = ALPHA,
    retryable: bool = True,
) -> AttemptFailed:
    return AttemptFailed(
        task_id=TaskId(task_id),
        bot_id=BotId(bot_id),
        token=token,
        attempt=attempt,
        error=error,
        started_at=NOON,
        ended_at=NOON,
        retry_at=retry_at,
        retryable=retryable,
    )


def lost(
    token: int = 2,
    attempt: int = 1,
    retry_at: datetime | None = NOON,
    *,
    task_id: str = T1,
    bot_id: str = ALPHA,
    reason: str = "bot_silent",
) -> AttemptLost:
    return AttemptLost(
        task_id=TaskId(task_id),
        bot_id=BotId(bot_id),
        token=token,
        attempt=attempt,
        reason=reason,
        retry_at=retry_at,
    )


def completed(token: int = 2, *, task_id: str = T1, bot_id: str = ALPHA) -> TaskCompleted:
    return TaskCompleted(
        task_id=TaskId(task_id),
        bot_id=BotId(bot_id),
        token=token,
        attempt=1,
        started_at=NOON,
        ended_at=NOON,
        output=Output(text="ok", size_bytes=2),
    )


def report(end: End, token: int = 2, bot_id: str = ALPHA, task_id: str = T1) -> ReportTask:
    return ReportTask(
        task_id=TaskId(task_id), bot_id=BotId(bot_id), token=token, started_at=NOON, ended_at=NOON, end=end
    )


def done(text: str = "ok") -> Done:
    return Done(output=Output(text=text, size_bytes=len(text)))


def undone(*, retryable: bool = True) -> Undone:
    return Undone(error=ERROR, retryable=retryable)


def stopped(*, begun: bool) -> Stopped:
    return Stopped(reason="shut down", begun=begun)


def launched(bot_id: str = ALPHA, spec: BotSpec = ECHO, generation: int = 1) -> BotLaunched:
    return BotLaunched(bot_id=BotId(bot_id), spec=spec, generation=generation)


def came_up(bot_id: str = ALPHA, generation: int = 1) -> BotCameUp:
    return BotCameUp(bot_id=BotId(bot_id), generation=generation, pid=7, host="local")


def silent(bot_id: str = ALPHA, generation: int = 1) -> BotWentSilent:
    return BotWentSilent(bot_id=BotId(bot_id), generation=generation)


def died(crashes: int = 1, restart_at: datetime | None = NOON, generation: int = 1) -> BotDied:
    return BotDied(
        bot_id=ALPHA, generation=generation, reason="exit 1", crashes=crashes, restart_at=restart_at
    )


def restarted(generation: int = 2, reason: str = "asked", bot_id: str = ALPHA) -> BotRestarted:
    return BotRestarted(bot_id=BotId(bot_id), generation=generation, reason=reason)


def stop_requested(generation: int = 1, bot_id: str = ALPHA) -> BotStopRequested:
    return BotStopRequested(bot_id=BotId(bot_id), generation=generation)


def retired(generation: int = 1, bot_id: str = ALPHA) -> BotRetired:
    return BotRetired(bot_id=BotId(bot_id), generation=generation)


def task(*commits: TaskEvent | tuple[TaskEvent, ...], at: datetime = NOON) -> Given[Task, Any, TaskEvent]:
    return given(TASK, *commits, at=at)


def bot(*commits: BotEvent | tuple[BotEvent, ...], at: datetime = NOON) -> Given[Bot, Any, BotEvent]:
    return given(BOT, *commits, at=at)


def commit(
    sequence: int, *facts: Any, at: datetime = NOON, aggregate: str | None = None, chain: str = "chain-1"
) -> Recorded[Any]:
    """A commit as the log holds it; whose it is stands in its facts."""
    first = facts[0]
    kind = aggregate or ("task" if hasattr(first, "task_id") else "bot")
    key = getattr(first, f"{kind}_id")
    return Recorded(
        facts=facts,
        commit_id=f"commit-{sequence}",
        aggregate=kind,
        aggregate_id=key,
        sequence=sequence,
        at=at,
        cause=Cause(message_id=f"command-{sequence}", correlation_id=chain, actor="key-1"),
    )
