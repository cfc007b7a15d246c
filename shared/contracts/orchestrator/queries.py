"""What the orchestrator can be asked about, and the documents it answers with (the API's own JSON)."""

from datetime import datetime
from typing import ClassVar

import msgspec

from shared.contracts.orchestrator.facts import (
    BotSpec,
    Decision,
    FileRef,
    Output,
    RetryPolicy,
    TaskError,
    Usage,
)
from shared.contracts.words import AfterPolicy, BotId, Page, Priority, TaskId, TaskType
from shared.kernel.messages import Query


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try by one bot. `end`: running, completed, failed, lost, withdrawn, cancelled, expired."""

    attempt: int
    bot: BotId
    token: int
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    end: str = "running"
    error: TaskError | None = None
    usage: Usage = Usage()


class TaskDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A task as everybody sees it.

    `state`: waiting (for other tasks), queued, assigned, running, retrying, blocked, completed, failed,
    cancelled, expired.
    `version` is the sequence of its newest commit.
    """

    id: TaskId
    state: str
    type: TaskType
    type_reason: str
    priority: Priority
    content: str
    submitter: str
    submitted_at: datetime
    timeout_s: float
    retry: RetryPolicy
    version: int
    updated_at: datetime
    input: str | None = None
    input_file: FileRef | None = None
    engine: str | None = None
    required_bot: BotId | None = None
    pool: str | None = None
    deadline: datetime | None = None
    bot: BotId | None = None  # who has it, or had it last
    ended_at: datetime | None = None
    retry_at: datetime | None = None
    output: Output | None = None
    error: TaskError | None = None
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()
    usage: Usage = Usage()
    after: tuple[TaskId, ...] = ()
    after_policy: AfterPolicy = AfterPolicy.COMPLETED
    parent: TaskId | None = None  # the task that spawned it
    root: TaskId | None = None  # the task that was submitted, above it
    tree_cancelled: bool = False


class TreeNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task of a tree; `depth` below the one that was asked about, `content` its beginning."""

    id: TaskId
    parent: TaskId | None
    depth: int
    state: str
    type: TaskType
    content: str
    submitted_at: datetime
    bot: BotId | None = None
    ended_at: datetime | None = None


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A task and all that descends from it, each after its parent; `truncated`: there are more."""

    id: TaskId
    nodes: list[TreeNode]
    truncated: bool = False


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a task; `after_ms` since the one before it, `since_start_ms` since submission."""

    sequence: int
    at: datetime
    fact: str
    actor: str
    cause: str
    after_ms: float
    since_start_ms: float
    detail: msgspec.Raw


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Every fact of a task in order."""

    id: TaskId
    entries: list[TimelineEntry]


class BotVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a bot cannot have a task now."""

    bot: BotId
    reason: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What a task waits for, in a sentence, and the reasons bot by bot (at most 50)."""

    id: TaskId
    state: str
    explanation: str
    waits_for: str  # nothing, a_bot, a_slot, retry, review, the_bot, other_tasks
    queue_position: int | None = None
    bots: list[BotVerdict] = []
    decision: Decision | None = None
    advice: str | None = None


class CircuitDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit that is not closed. `state`: open, given nothing until then; half_open, one at a time."""

    state: str
    reason: str
    until: datetime | None = None


class BotDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A bot as everybody sees it.

    `state`: starting, idle, busy, draining, silent, restarting, broken, stopped, retired.
    Memory in bytes, uptime in s. `came_up`: a process of it did answer once, since it was launched.
    """

    name: BotId
    state: str
    spec: BotSpec
    generation: int
    launched_at: datetime
    version: int
    updated_at: datetime
    pid: int | None = None
    host: str | None = None
    uptime_s: float | None = None
    rss_bytes: int | None = None
    cpu_s: float | None = None
    last_heard_s: float | None = None  # seconds ago
    running: tuple[TaskId, ...] = ()
    free_slots: int = 0
    crashes: int = 0
    restart_at: datetime | None = None
    reason: str | None = None
    circuit: CircuitDoc | None = None  # None: closed
    came_up: bool = False


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a bot."""

    task_id: TaskId
    type: TaskType
    content: str
    attempt: Attempt
    output_text: str | None = None


class GetTask(Query[TaskDoc], frozen=True, kw_only=True):
    """One task; waits up to 1 s for the view to reach `at_least`, else Behind. NotFound: `task_not_found`."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = TaskDoc

    task_id: TaskId
    at_least: int = 0


class AwaitTask(Query[TaskDoc], frozen=True, kw_only=True):
    """One task when it has ended, or as it is after `wait_s` (at most 30)."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = TaskDoc

    task_id: TaskId
    wait_s: float
    at_least: int = 0


class ListTasks(Query[Page[TaskDoc]], frozen=True, kw_only=True):
    """Tasks, newest first; `limit` 1 to 200."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[TaskDoc]

    state: str | None = None
    type: TaskType | None = None
    bot: BotId | None = None
    priority: Priority | None = None
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class GetTimeline(Query[Timeline], frozen=True, kw_only=True):
    """Every fact of a task."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Timeline

    task_id: TaskId


class GetTree(Query[Tree], frozen=True, kw_only=True):
    """A task and all that descends from it, at most 1,000."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Tree

    task_id: TaskId
    at_least: int = 0


class GetWhy(Query[Why], frozen=True, kw_only=True):
    """What a task waits for."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Why

    task_id: TaskId


class GetBot(Query[BotDoc], frozen=True, kw_only=True):
    """One bot. `wait_up_s`: wait until it is up or cannot be.

    NotFound: `bot_not_found`, with the nearest names.
    """

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = BotDoc

    bot_id: BotId
    wait_up_s: float = 0.0
    wait_gone_s: float = 0.0
    at_least: int = 0


class ListBots(Query[Page[BotDoc]], frozen=True, kw_only=True):
    """Bots by name; retired ones only when asked for."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[BotDoc]

    retired: bool = False
    pool: str | None = None
    cursor: str | None = None
    limit: int = 200
    at_least: int = 0


class GetBotHistory(Query[Page[HistoryEntry]], frozen=True, kw_only=True):
    """What a bot did, newest first."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[HistoryEntry]

    bot_id: BotId
    cursor: str | None = None
    limit: int = 50


class GetFile(Query[bytes], frozen=True, kw_only=True):
    """A stored file in pieces of at most 512 KiB; NotFound: `file_not_found`."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = bytes

    sha256: str
    offset: int = 0


class PutFile(Query[FileRef], frozen=True, kw_only=True):
    """Keep these bytes, at most INPUT_BYTES_MAX, as a task's input; twice is once.

    Rejected: `file_too_large`.
    """

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = FileRef

    data: bytes


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are of each state; states without any may be missing."""

    tasks: dict[str, int]
    bots: dict[str, int]


class HostDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A bot host as it described itself last. `state`: heard, or silent when that is too long ago."""

    name: str
    state: str
    running: int
    engines: tuple[str, ...]
    last_heard_s: float  # seconds ago


class ListHosts(Query[Page[HostDoc]], frozen=True, kw_only=True):
    """The bot hosts that were heard since the orchestrator runs, by name."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[HostDoc]


class GetCounts(Query[Counts], frozen=True, kw_only=True):
    """Tasks and bots by state: the newest figures, without a wait."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Counts
