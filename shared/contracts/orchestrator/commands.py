"""What the orchestrator can be asked to do."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from shared.contracts.orchestrator.facts import BotSpec, FileRef, Output, RetryPolicy, TaskError, Usage
from shared.contracts.words import CIRCUIT_OPEN_S, AfterPolicy, BotId, Priority, TaskId, TaskType
from shared.kernel.messages import Command

_PEOPLE: Final = frozenset({"gateway"})
_PEOPLE_AND_SERVICES: Final = frozenset({"gateway", "service"})
_BOTS: Final = frozenset({"bot"})
_SERVICES: Final = frozenset({"service"})


class TaskCommand(Command, frozen=True, kw_only=True):
    """About one task."""

    service: ClassVar[str] = "orchestrator"
    aggregate: ClassVar[str] = "task"
    key_field: ClassVar[str] = "task_id"


class SubmitTask(TaskCommand, frozen=True, kw_only=True):
    """Please do this. Total: after the gateway's validation it is always recorded.

    It is not begun before all in `after` (at most AFTER_MAX) have come to what `after_policy` says. Whether
    there are such tasks is not asked here: they may be submitted later.
    """

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES
    opens: ClassVar[bool] = True

    task_id: TaskId
    content: str
    body_hash: str
    submitter: str
    priority: Priority = Priority.P2
    type: TaskType | None = None  # None: classified from the text
    timeout_s: float = 3600.0
    input: str | None = None
    input_file: FileRef | None = None
    engine: str | None = None
    bot: BotId | None = None
    pool: str | None = None
    deadline: datetime | None = None
    retry: RetryPolicy = RetryPolicy()
    after: tuple[TaskId, ...] = ()
    after_policy: AfterPolicy = AfterPolicy.COMPLETED
    ancestors: tuple[TaskId, ...] = ()  # of a task that another one spawned
    spawned_by: BotId | None = None


class SpawnTask(TaskCommand, frozen=True, kw_only=True):
    """From the bot that does `parent`: do this, too, apart from it. The same again is the same task.

    Left out, `priority` is the parent's, and the text tells the `type`. Refused: `stale_token`,
    `not_seen_yet` (ask again), `spawn_too_deep`, `too_many_children`, `bad_…`, `idempotency_key_reused` (this
    id, with other words).
    """

    senders: ClassVar[frozenset[str]] = _BOTS
    opens: ClassVar[bool] = True

    task_id: TaskId
    bot_id: BotId
    parent: TaskId
    token: int
    content: str
    priority: Priority | None = None
    type: TaskType | None = None
    timeout_s: float = 3600.0
    input: str | None = None
    input_file: FileRef | None = None
    engine: str | None = None
    bot: BotId | None = None
    pool: str | None = None
    deadline: datetime | None = None
    retry: RetryPolicy = RetryPolicy()
    after: tuple[TaskId, ...] = ()
    after_policy: AfterPolicy = AfterPolicy.COMPLETED


class CancelTask(TaskCommand, frozen=True, kw_only=True):
    """It is no longer wanted, and nothing that it spawned; with `tree` that may be said when it has ended."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    task_id: TaskId
    reason: str = "asked"
    tree: bool = False


class ResumeTask(TaskCommand, frozen=True, kw_only=True):
    """A blocked task was looked at, and may run again."""

    senders: ClassVar[frozenset[str]] = _PEOPLE

    task_id: TaskId


class ClaimTask(TaskCommand, frozen=True, kw_only=True):
    """The bot is about to start work that is not repeatable, and asks whether it still may."""

    senders: ClassVar[frozenset[str]] = _BOTS

    task_id: TaskId
    bot_id: BotId
    token: int


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done", tag_field="end", omit_defaults=True):
    """The engine finished the task."""

    output: Output
    usage: Usage = Usage()


class Undone(msgspec.Struct, frozen=True, kw_only=True, tag="undone", tag_field="end", omit_defaults=True):
    """The engine could not. `retryable` is False where another attempt would end alike."""

    error: TaskError
    output: Output = Output()
    usage: Usage = Usage()
    retryable: bool = True


class Stopped(msgspec.Struct, frozen=True, kw_only=True, tag="stopped", tag_field="end", omit_defaults=True):
    """The bot stopped the engine without an end: shut down, or cut off. `begun`: it had begun to act."""

    reason: str
    begun: bool = True


End = Done | Undone | Stopped


class ReportTask(TaskCommand, frozen=True, kw_only=True):
    """How an attempt ended. `started_at` and `ended_at` are the bot's own clock."""

    senders: ClassVar[frozenset[str]] = _BOTS

    task_id: TaskId
    bot_id: BotId
    token: int
    started_at: datetime
    ended_at: datetime
    end: End


class BotCommand(Command, frozen=True, kw_only=True):
    """About one bot."""

    service: ClassVar[str] = "orchestrator"
    aggregate: ClassVar[str] = "bot"
    key_field: ClassVar[str] = "bot_id"


class LaunchBot(BotCommand, frozen=True, kw_only=True):
    """There shall be such a bot."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES
    opens: ClassVar[bool] = True

    bot_id: BotId
    spec: BotSpec


class StartBot(BotCommand, frozen=True, kw_only=True):
    """A stopped or broken bot shall run again, as it was launched."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId


class StopBot(BotCommand, frozen=True, kw_only=True):
    """It shall finish what it does, then stop."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId


class RestartBot(BotCommand, frozen=True, kw_only=True):
    """A new process for it; what it holds is given elsewhere."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId
    reason: str = "asked"


class RetireBot(BotCommand, frozen=True, kw_only=True):
    """It shall be gone for good."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId


class OpenCircuit(BotCommand, frozen=True, kw_only=True):
    """It shall be given nothing for so long; then it is tried with one task at a time."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId
    for_s: float = CIRCUIT_OPEN_S
    reason: str = "asked"


class CloseCircuit(BotCommand, frozen=True, kw_only=True):
    """It shall be given tasks again, whatever was before."""

    senders: ClassVar[frozenset[str]] = _PEOPLE_AND_SERVICES

    bot_id: BotId
    reason: str = "asked"


class ReportBotExit(BotCommand, frozen=True, kw_only=True):
    """From the bot host: the process of this generation ended."""

    senders: ClassVar[frozenset[str]] = _SERVICES

    bot_id: BotId
    generation: int
    reason: str  # `exit 1`, `signal 9`


TaskRequest = SubmitTask | SpawnTask | CancelTask | ResumeTask | ClaimTask | ReportTask
BotRequest = (
    LaunchBot | StartBot | StopBot | RestartBot | RetireBot | OpenCircuit | CloseCircuit | ReportBotExit
)
