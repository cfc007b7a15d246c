"""How facts become documents: a task's, a bot's, and a task's timeline. Pure folds; a commit counts once."""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from services.orchestrator.facts import BotCleared, BotEvent, TaskEvent
from shared.contracts.orchestrator.facts import (
    AssignmentWithdrawn,
    AttemptFailed,
    AttemptLost,
    BotCameUp,
    BotDied,
    BotHeardAgain,
    BotLaunched,
    BotLaunchFailed,
    BotRestarted,
    BotRetired,
    BotStopped,
    BotStopRequested,
    BotWentSilent,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
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
    Usage,
)
from shared.contracts.orchestrator.queries import (
    Attempt,
    BotDoc,
    CircuitDoc,
    TaskDoc,
    Timeline,
    TimelineEntry,
)
from shared.contracts.words import TaskId
from shared.kernel.codec import encode, tag_of
from shared.kernel.messages import Recorded

_change = msgspec.structs.replace


def fold_task(doc: TaskDoc | None, commit: Recorded[TaskEvent]) -> TaskDoc | None:
    """The document after a commit; None before the task was submitted."""
    if doc is not None and commit.sequence <= doc.version:
        return doc
    for fact in commit.facts:
        if isinstance(fact, TaskSubmitted):
            doc = _submitted(fact, commit)
        elif doc is not None:
            doc = _after(doc, fact, commit)
    return None if doc is None else _change(doc, version=commit.sequence, updated_at=commit.at)


def fold_tasks(commits: Sequence[Recorded[TaskEvent]]) -> TaskDoc | None:
    """The document after a whole past."""
    doc: TaskDoc | None = None
    for commit in commits:
        doc = fold_task(doc, commit)
    return doc


def _submitted(fact: TaskSubmitted, commit: Recorded[TaskEvent]) -> TaskDoc:
    return TaskDoc(
        id=fact.task_id,
        state="waiting" if fact.after else "queued",
        type=fact.type,
        type_reason=fact.type_reason,
        priority=fact.priority,
        content=fact.content,
        submitter=fact.submitter,
        submitted_at=commit.at,
        timeout_s=fact.timeout_s,
        retry=fact.retry,
        version=commit.sequence,
        updated_at=commit.at,
        input=fact.input,
        input_file=fact.input_file,
        engine=fact.engine,
        required_bot=fact.bot,
        pool=fact.pool,
        deadline=fact.deadline,
        after=fact.after,
        after_policy=fact.after_policy,
        parent=fact.ancestors[-1] if fact.ancestors else None,
        root=fact.ancestors[0] if fact.ancestors else None,
    )


def _after(doc: TaskDoc, fact: TaskEvent, commit: Recorded[TaskEvent]) -> TaskDoc:
    at = commit.at
    match fact:
        case TaskSubmitted():
            return doc
        case DependenciesMet():
            return _change(doc, state="queued")
        case TaskAssigned():
            attempt = Attempt(attempt=fact.attempt, bot=fact.bot_id, token=commit.sequence, assigned_at=at)
            return _change(
                doc,
                state="assigned",
                bot=fact.bot_id,
                retry_at=None,
                reason=None,
                attempts=(*doc.attempts, attempt),
            )
        case TaskStarted():
            return _last(_change(doc, state="running"), started_at=at)
        case AssignmentWithdrawn():
            error = TaskError(code="withdrawn", detail=fact.reason)
            return _last(_change(doc, state="queued"), end="withdrawn", ended_at=at, error=error)
        case TaskCompleted():
            done = _last(
                doc,
                end="completed",
                started_at=fact.started_at,
                ended_at=fact.ended_at,
                usage=fact.usage,
            )
            return _change(
                done,
                state="completed",
                ended_at=at,
                output=fact.output,
                error=None,
                usage=_sum(doc.usage, fact.usage),
            )
        case AttemptFailed():
            tried = _last(
                doc,
                end="failed",
                started_at=fact.started_at,
                ended_at=fact.ended_at,
                usage=fact.usage,
                error=fact.error,
            )
            return _change(
                tried,
                state="retrying",
                retry_at=fact.retry_at,
                error=fact.error,
                output=fact.output,
                usage=_sum(doc.usage, fact.usage),
            )
        case AttemptLost():
            error = TaskError(code="attempt_lost", detail=fact.reason)
            tried = _last(doc, end="lost", ended_at=at, error=error)
            return _change(tried, state="retrying", retry_at=fact.retry_at, error=error)
        case TaskBlocked():
            return _change(doc, state="blocked", reason=fact.reason, retry_at=None)
        case TaskResumed():
            return _change(doc, state="queued", reason=None)
        case TaskFailed():
            return _change(doc, state="failed", ended_at=at, error=fact.error, retry_at=None)
        case TaskCancelled():
            ended = _change(doc, state="cancelled", ended_at=at, reason=fact.reason, retry_at=None)
            return _last(ended, end="cancelled", ended_at=at) if fact.bot_id is not None else ended
        case TreeCancelled():
            return _change(doc, tree_cancelled=True)
        case TaskExpired():
            ended = _change(doc, state="expired", ended_at=at, reason="its deadline passed", retry_at=None)
            return _last(ended, end="expired", ended_at=at) if fact.bot_id is not None else ended
        case _:
            assert_never(fact)


def _last(doc: TaskDoc, **changes: object) -> TaskDoc:
    """The document with its newest attempt changed."""
    if not doc.attempts:
        return doc
    return _change(doc, attempts=(*doc.attempts[:-1], _change(doc.attempts[-1], **changes)))


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
        cost_usd=one.cost_usd + other.cost_usd,
    )


def fold_bot(doc: BotDoc | None, commit: Recorded[BotEvent]) -> BotDoc | None:
    """The document after a commit, without what only heartbeats tell. Up bots are `idle` in it."""
    if doc is not None and commit.sequence <= doc.version:
        return doc
    for fact in commit.facts:
        if isinstance(fact, BotLaunched):
            doc = BotDoc(
                name=fact.bot_id,
                state="starting",
                spec=fact.spec,
                generation=fact.generation,
                launched_at=commit.at,
                version=commit.sequence,
                updated_at=commit.at,
            )
        elif doc is not None:
            doc = _bot_after(doc, fact)
    return None if doc is None else _change(doc, version=commit.sequence, updated_at=commit.at)


def _bot_after(doc: BotDoc, fact: BotEvent) -> BotDoc:
    match fact:
        case BotLaunched():
            return doc
        case BotCameUp():
            return _change(
                doc, state="idle", pid=fact.pid, host=fact.host, reason=None, restart_at=None, came_up=True
            )
        case BotWentSilent():
            return _change(doc, state="silent", reason="it has not been heard for a while")
        case BotHeardAgain():
            return _change(doc, state="idle", reason=None)
        case BotDied():
            return _change(
                doc,
                state="broken" if fact.restart_at is None else "restarting",
                pid=None,
                crashes=fact.crashes,
                restart_at=fact.restart_at,
                reason=fact.reason,
            )
        case BotRestarted():
            return _change(
                doc,
                state="starting",
                generation=fact.generation,
                pid=None,
                restart_at=None,
                crashes=doc.crashes if doc.state == "restarting" else 0,
                reason=fact.reason,
            )
        case BotLaunchFailed():
            return _change(doc, state="broken", pid=None, reason=fact.error.detail)
        case BotStopRequested():
            return _change(doc, state="draining", restart_at=None, reason="asked to stop")
        case BotStopped():
            return _change(doc, state="stopped", pid=None, reason="asked to stop")
        case BotRetired():
            return _change(doc, state="retired", pid=None, restart_at=None, reason="retired")
        case CircuitOpened():
            return _change(doc, circuit=CircuitDoc(state="open", reason=fact.reason, until=fact.until))
        case CircuitHalfOpened():
            reason = "" if doc.circuit is None else doc.circuit.reason
            return _change(doc, circuit=CircuitDoc(state="half_open", reason=reason))
        case CircuitClosed():
            return _change(doc, circuit=None)
        case BotCleared():
            return doc
        case _:
            assert_never(fact)


def timeline(task_id: TaskId, commits: Sequence[Recorded[TaskEvent]]) -> Timeline:
    """Every fact of a task, with the time between them."""
    entries: list[TimelineEntry] = []
    for commit in commits:
        for fact in commit.facts:
            start = entries[0].at if entries else commit.at
            before = entries[-1].at if entries else commit.at
            entries.append(
                TimelineEntry(
                    sequence=commit.sequence,
                    at=commit.at,
                    fact=tag_of(type(fact)),
                    actor=commit.cause.actor,
                    cause=commit.cause.message_id,
                    after_ms=(commit.at - before).total_seconds() * 1000,
                    since_start_ms=(commit.at - start).total_seconds() * 1000,
                    detail=msgspec.Raw(encode(fact)),
                )
            )
    return Timeline(id=task_id, entries=entries)
