"""What a task is at any moment, and how facts change it."""

from datetime import datetime
from typing import Literal, assert_never

import msgspec

from services.orchestrator.facts import TaskEvent
from shared.contracts.orchestrator.facts import (
    AssignmentWithdrawn,
    AttemptFailed,
    AttemptLost,
    DependenciesMet,
    TaskAssigned,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskSubmitted,
    TreeCancelled,
)
from shared.contracts.words import BotId

How = Literal["completed", "failed", "cancelled", "expired"]


class Unknown(msgspec.Struct, frozen=True):
    """Nobody has asked for this task yet."""


class Waiting(msgspec.Struct, frozen=True):
    """It waits for a bot, or for `retry_at`; while `dependent`, for those after which it comes.

    `attempts` were made, `allowed` may be; `last_bot` is better avoided.
    """

    order: TaskSubmitted
    since: datetime
    attempts: int
    allowed: int
    last_bot: BotId | None = None
    retry_at: datetime | None = None
    reported: int = 0  # the token of the last attempt whose end the bot itself told; 0: none
    dependent: bool = False


class Held(msgspec.Struct, frozen=True):
    """A bot has it: under the fencing token, the sequence of the commit that gave it."""

    order: TaskSubmitted
    since: datetime
    attempts: int
    allowed: int
    bot_id: BotId
    token: int
    assigned_at: datetime
    started: bool = False


class Blocked(msgspec.Struct, frozen=True):
    """A person must look before it may run again."""

    order: TaskSubmitted
    since: datetime
    attempts: int
    allowed: int
    last_bot: BotId | None
    reported: int


class Ended(msgspec.Struct, frozen=True):
    """Nothing more can happen to it; `tree_cancelled`: what descends from it is no longer wanted.

    `token` is the attempt that was current at the end, 0 if its end is unknown.
    """

    how: How
    body_hash: str
    token: int = 0
    tree_cancelled: bool = False


Task = Unknown | Waiting | Held | Blocked | Ended
Open = Waiting | Held | Blocked


def state_name(task: Waiting | Held | Blocked | Ended) -> str:
    """The word for a task's state that everybody uses."""
    match task:
        case Waiting():
            if task.dependent:
                return "waiting"
            return "queued" if task.retry_at is None else "retrying"
        case Held():
            return "running" if task.started else "assigned"
        case Blocked():
            return "blocked"
        case Ended():
            return task.how
        case _:
            assert_never(task)


def evolve(task: Task, fact: TaskEvent, sequence: int, at: datetime) -> Task:
    """The task after one of its facts.

    A fact that does not fit changes nothing: only a view that runs ahead sees one.
    """
    if isinstance(fact, TaskSubmitted):
        return Waiting(
            order=fact,
            since=at,
            attempts=0,
            allowed=fact.retry.attempts_max,
            dependent=bool(fact.after),
            last_bot=fact.spawned_by,  # it may wait for its children: they had better go elsewhere
        )
    if isinstance(fact, TreeCancelled):
        return msgspec.structs.replace(task, tree_cancelled=True) if isinstance(task, Ended) else task
    if isinstance(task, Unknown | Ended):
        return task
    match fact:
        case DependenciesMet():
            return msgspec.structs.replace(task, dependent=False) if isinstance(task, Waiting) else task
        case TaskAssigned():
            return Held(
                order=task.order,
                since=task.since,
                attempts=task.attempts,
                allowed=task.allowed,
                bot_id=fact.bot_id,
                token=sequence,
                assigned_at=at,
            )
        case TaskStarted():
            return msgspec.structs.replace(task, started=True) if isinstance(task, Held) else task
        case AssignmentWithdrawn():
            return _waiting(task, last_bot=fact.bot_id)
        case AttemptFailed():
            return _waiting(
                task,
                attempts=fact.attempt,
                last_bot=fact.bot_id,
                retry_at=fact.retry_at,
                reported=fact.token,
            )
        case AttemptLost():
            return _waiting(task, attempts=fact.attempt, last_bot=fact.bot_id, retry_at=fact.retry_at)
        case TaskBlocked():
            return Blocked(
                order=task.order,
                since=task.since,
                attempts=task.attempts,
                allowed=task.allowed,
                last_bot=task.bot_id if isinstance(task, Held) else task.last_bot,
                reported=_current(task),
            )
        case TaskResumed():
            last = task.bot_id if isinstance(task, Held) else task.last_bot
            return _waiting(task, last_bot=last, allowed=max(task.allowed, task.attempts + 1))
        case TaskCompleted():
            return _ended(task, "completed")
        case TaskFailed():
            return _ended(task, "failed")
        case TaskCancelled():
            return _ended(task, "cancelled")
        case TaskExpired():
            return _ended(task, "expired")
        case _:
            assert_never(fact)


def _waiting(
    was: Open,
    *,
    last_bot: BotId | None,
    attempts: int | None = None,
    allowed: int | None = None,
    retry_at: datetime | None = None,
    reported: int = 0,
) -> Waiting:
    return Waiting(
        order=was.order,
        since=was.since,
        attempts=was.attempts if attempts is None else attempts,
        allowed=was.allowed if allowed is None else allowed,
        last_bot=last_bot,
        retry_at=retry_at,
        reported=reported,
    )


def _current(task: Open) -> int:
    """The attempt whose report would still be welcome, or was the last one to be."""
    return task.token if isinstance(task, Held) else task.reported


def _ended(was: Open, how: How) -> Ended:
    return Ended(how=how, body_hash=was.order.body_hash, token=_current(was))
