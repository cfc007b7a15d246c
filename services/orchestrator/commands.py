"""What only the orchestrator asks of itself: nobody may send these. Too late, each means nothing."""

from datetime import datetime
from typing import ClassVar, Final

from shared.contracts.orchestrator.commands import (
    BotCommand,
    BotRequest,
    SubmitTask,
    TaskCommand,
    TaskRequest,
)
from shared.contracts.orchestrator.facts import Decision, TaskError
from shared.contracts.words import BotId, TaskId

_NOBODY: Final[frozenset[str]] = frozenset()


class PlaceTask(TaskCommand, frozen=True, kw_only=True):
    """A submission, together with the bot that can have it at once."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    submit: SubmitTask
    bot_id: BotId
    decision: Decision


class AssignTask(TaskCommand, frozen=True, kw_only=True):
    """A waiting task shall go to this bot."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    bot_id: BotId
    decision: Decision


class WithdrawAssignment(TaskCommand, frozen=True, kw_only=True):
    """The bot did not take it: that was no attempt."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    token: int
    reason: str


class NoteTaskStarted(TaskCommand, frozen=True, kw_only=True):
    """The bot's heartbeats go on naming it."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    token: int


class LoseAttempt(TaskCommand, frozen=True, kw_only=True):
    """Nobody will ever say how this attempt ended."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    token: int
    reason: str


class ExpireTask(TaskCommand, frozen=True, kw_only=True):
    """Its deadline has passed."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId


class ReleaseTask(TaskCommand, frozen=True, kw_only=True):
    """All that it comes after have come to what was asked."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId


class FailDependent(TaskCommand, frozen=True, kw_only=True):
    """What it comes after will never come to what was asked."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    error: TaskError


class RefuseSpawn(TaskCommand, frozen=True, kw_only=True):
    """There shall be no such child."""

    senders: ClassVar[frozenset[str]] = _NOBODY
    opens: ClassVar[bool] = True

    task_id: TaskId
    code: str
    detail: str


class CancelOrphan(TaskCommand, frozen=True, kw_only=True):
    """What it descends from is no longer wanted, or has failed for good."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    task_id: TaskId
    reason: str


class NoteBotUp(BotCommand, frozen=True, kw_only=True):
    """The process of this generation answered."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int
    pid: int
    host: str


class NoteBotSilent(BotCommand, frozen=True, kw_only=True):
    """It has not been heard for too long."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int


class NoteBotHeard(BotCommand, frozen=True, kw_only=True):
    """A silent bot is heard again."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int


class NoteBotDead(BotCommand, frozen=True, kw_only=True):
    """Its process must be gone, or beyond hope, though no exit was reported; seen at `seen_at`.

    `crashed` says whether that counts as a crash of its own: it does not when its whole host was gone.
    """

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int
    reason: str
    seen_at: datetime
    crashed: bool


class NoteLaunchFailed(BotCommand, frozen=True, kw_only=True):
    """Its host refused to start it, for good."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int
    error: TaskError


class NoteBotStopped(BotCommand, frozen=True, kw_only=True):
    """A bot that was to stop runs no more."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int


class RestartDeadBot(BotCommand, frozen=True, kw_only=True):
    """The time to start it again has come."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int


class NoteBotCleared(BotCommand, frozen=True, kw_only=True):
    """What the retired bot left was removed."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    generation: int


class TripCircuit(BotCommand, frozen=True, kw_only=True):
    """Too many of its attempts failed since its circuit last changed, at the sequence `since`."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    since: int
    reason: str
    failures: int
    attempts: int
    for_s: float


class TryCircuit(BotCommand, frozen=True, kw_only=True):
    """It was given nothing for long enough."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    since: int


class MendCircuit(BotCommand, frozen=True, kw_only=True):
    """Its trials succeeded."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    bot_id: BotId
    since: int
    reason: str


OwnTaskCommand = (
    PlaceTask
    | AssignTask
    | WithdrawAssignment
    | NoteTaskStarted
    | LoseAttempt
    | ExpireTask
    | ReleaseTask
    | FailDependent
    | RefuseSpawn
    | CancelOrphan
)
OwnBotCommand = (
    NoteBotUp
    | NoteBotSilent
    | NoteBotHeard
    | NoteBotDead
    | NoteLaunchFailed
    | NoteBotStopped
    | RestartDeadBot
    | NoteBotCleared
    | TripCircuit
    | TryCircuit
    | MendCircuit
)

TaskWish = TaskRequest | OwnTaskCommand
BotWish = BotRequest | OwnBotCommand
OwnCommand = OwnTaskCommand | OwnBotCommand
