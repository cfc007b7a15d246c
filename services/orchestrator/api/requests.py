"""What callers send about tasks and bots: checked here once, field by field."""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.contracts.orchestrator.facts import BotSpec, MemoryMb, RestartPolicy, RetryPolicy
from shared.contracts.words import (
    AFTER_MAX,
    ATTEMPTS_DEFAULT,
    ATTEMPTS_MAX,
    BACKOFF_FIRST,
    BACKOFF_MAX,
    CONTENT_CHARS_MAX,
    INPUT_BYTES_MAX,
    SLOTS_DEFAULT,
    SLOTS_MAX,
    TASK_TIMEOUT_DEFAULT,
    TASK_TIMEOUT_MAX,
    AfterPolicy,
    BotId,
    Name,
    Priority,
    SideEffects,
    TaskId,
    TaskType,
)
from shared.kernel.wishes import wish_hash
from shared.runtime.problems import Refusal, Wrong

WAIT_MAX_S: Final = 30.0
COUNT_MAX: Final = 200
PAGE_MAX: Final = 200
DAY_S: Final = 86_400.0

Backoff = Annotated[float, msgspec.Meta(ge=0.05, le=DAY_S, description="Seconds.")]
Moment = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, with its offset.")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=CONTENT_CHARS_MAX)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]
Variable = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}(?!\n)$")]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4_000, pattern=r"^[^\x00]*$")]
Key = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,200}(?!\n)$")]
Cursor = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}(?!\n)$")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
Wait = Annotated[float, msgspec.Meta(ge=0, le=WAIT_MAX_S, description="Seconds.")]


class NewRetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often and how soon a task is tried again, and what it means to run it twice."""

    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPTS_MAX)] = ATTEMPTS_DEFAULT
    backoff_first_s: Backoff = BACKOFF_FIRST.total_seconds()
    backoff_max_s: Backoff = BACKOFF_MAX.total_seconds()
    side_effects: SideEffects = SideEffects.IDEMPOTENT

    def policy(self) -> RetryPolicy:
        """As the orchestrator's word."""
        return RetryPolicy(
            attempts_max=self.attempts_max,
            backoff_first_s=self.backoff_first_s,
            backoff_max_s=self.backoff_max_s,
            side_effects=self.side_effects,
        )


class NewTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something to be done.

    `engine`, `bot`, `pool` are hard requirements; without a `type` the text tells it. It is begun only when
    all tasks in `after`, and those that were or will be submitted with the idempotency keys in `after_keys`,
    have come to what `after_policy` says.
    """

    content: Text
    type: TaskType | None = None
    priority: Priority = Priority.P2
    input: Annotated[str, msgspec.Meta(max_length=INPUT_BYTES_MAX)] | None = None
    engine: Name | None = None
    bot: Name | None = None
    pool: Name | None = None
    timeout_s: Annotated[
        float, msgspec.Meta(ge=0.05, le=TASK_TIMEOUT_MAX.total_seconds(), description="Of one attempt.")
    ] = TASK_TIMEOUT_DEFAULT.total_seconds()
    deadline: Moment | None = None
    retry: NewRetry = NewRetry()
    after: Annotated[tuple[Name, ...], msgspec.Meta(max_length=AFTER_MAX)] = ()
    after_keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=AFTER_MAX)] = ()
    after_policy: AfterPolicy = AfterPolicy.COMPLETED

    def body_hash(self) -> str:
        """What the same wish has in common, however it was written down."""
        return wish_hash(self)

    def check(self) -> None:
        """What the schema cannot say."""
        if self.input is not None and len(self.input.encode()) > INPUT_BYTES_MAX:
            wrong = Wrong(detail=f"The input has more than {INPUT_BYTES_MAX:,} bytes.", pointer="/input")
            raise Refusal(400, "invalid_body", wrong.detail, errors=(wrong,))
        if len(self.after) + len(self.after_keys) > AFTER_MAX:
            wrong = Wrong(detail=f"It comes after more than {AFTER_MAX} tasks.", pointer="/after_keys")
            raise Refusal(400, "invalid_body", wrong.detail, errors=(wrong,))


class NewLine(NewTask, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A task of a batch; asked for twice under the same `idempotency_key`, it is done once."""

    idempotency_key: Key | None = None

    def body_hash(self) -> str:
        """That of the task without its key."""
        return wish_hash(msgspec.structs.replace(self, idempotency_key=None))


class CancelAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is no longer wanted."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = "asked"


class NewRestart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a bot that died is started again."""

    restart: Literal["always", "never"] = "always"
    backoff_first_s: Backoff = 1.0
    backoff_max_s: Backoff = 60.0
    crashes_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5


class NewBot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bot that shall be; with a `count` above 1, so many of them: `name-1`, `name-2` and so on."""

    name: Name
    engine: Name
    types: Annotated[tuple[TaskType, ...], msgspec.Meta(max_length=len(TaskType))] = ()
    slots: Annotated[int, msgspec.Meta(ge=1, le=SLOTS_MAX)] = SLOTS_DEFAULT
    pool: Name = "default"
    workspace: Path | None = None
    env: Annotated[tuple[Variable, ...], msgspec.Meta(max_length=100)] = ()
    argv: Annotated[tuple[Word, ...], msgspec.Meta(max_length=100)] = ()
    allow: Annotated[tuple[Word, ...], msgspec.Meta(max_length=100)] = ()
    host: Name = "local"
    restart: NewRestart = NewRestart()
    memory_mb: MemoryMb | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)] = 1

    def spec(self) -> BotSpec:
        """As the orchestrator's word."""
        return BotSpec(
            engine=self.engine,
            types=self.types,
            slots=self.slots,
            pool=self.pool,
            workspace=self.workspace,
            env=self.env,
            argv=self.argv,
            allow=self.allow,
            host=self.host,
            restart=RestartPolicy(
                restart=self.restart.restart,
                backoff_first_s=self.restart.backoff_first_s,
                backoff_max_s=self.restart.backoff_max_s,
                crashes_max=self.restart.crashes_max,
            ),
            memory_mb=self.memory_mb,
        )

    def names(self) -> list[BotId]:
        """The bots that are asked for."""
        if self.count == 1:
            return [BotId(self.name)]
        return [BotId(f"{self.name}-{number}") for number in range(1, self.count + 1)]


class CircuitAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bot's circuit shall be. `for_s` is for an open one, by default as configured."""

    state: Literal["open", "closed"]
    for_s: Annotated[float, msgspec.Meta(ge=0.05, le=DAY_S, description="Seconds.")] | None = None
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = "asked"


TaskState = Literal[
    "waiting",
    "queued",
    "assigned",
    "running",
    "retrying",
    "blocked",
    "completed",
    "failed",
    "cancelled",
    "expired",
]


class Waited(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for the task's end."""

    wait: Wait = 0.0


class TreeAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether all that descends from it is meant, though it may have ended itself."""

    tree: bool = False


class TasksAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks."""

    state: TaskState | UnsetType = UNSET
    type: TaskType | UnsetType = UNSET
    bot: Name | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


class BotsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bots; those that are gone only when asked for."""

    retired: bool = False
    pool: Name | UnsetType = UNSET
    cursor: Name | UnsetType = UNSET
    limit: Limit = PAGE_MAX


class HistoryAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a history."""

    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


class UpWaited(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait until the bot is as asked."""

    wait: Wait = 5.0


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A task was taken: its id, and the sequence at which that stands in the log."""

    id: TaskId
    version: int
