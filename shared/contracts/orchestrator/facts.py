"""The public facts of tasks and bots."""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from shared.contracts.words import AfterPolicy, BotId, Priority, SideEffects, TaskId, TaskType
from shared.kernel.messages import Fact


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often and how soon a task is tried again. Times in seconds; jitter is added by the shell."""

    attempts_max: int = 3
    backoff_first_s: float = 1.0
    backoff_max_s: float = 30.0
    side_effects: SideEffects = SideEffects.IDEMPOTENT


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a bot that died is started again: `always` or `never`; not after `crashes_max` in a row."""

    restart: str = "always"
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    crashes_max: int = 5


class FileRef(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in the object store, named by what they are."""

    sha256: str
    size_bytes: int


class TaskError(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt or a task failed: a code for programs, a detail for people."""

    code: str
    detail: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt used. Tokens are counted by the engine; cost in US dollars."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt produced: the text itself up to 16 KB, else its start and a file.

    `truncated` says that the bot cut it at OUTPUT_BYTES_MAX.
    """

    text: str = ""
    file: FileRef | None = None
    size_bytes: int = 0
    truncated: bool = False
    exit_code: int | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bot that could have had the task, with what counted for it.

    `samples`: how many ends the score is made of. `chance`: how probable it is that exploring takes this one,
    among all that are tried.
    """

    bot_id: BotId
    free: int
    score: float = 0.0
    samples: int = 0
    chance: float = 0.0


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why this bot: it, the best others (at most four), how many there were, and why some could not.

    `explored`: another than the best was tried. `propensity`: how probable it was that this bot was taken;
    None where that is not known.
    """

    candidates: list[Candidate]
    candidates_total: int
    policy: str = "most_free"
    passed_over: dict[str, int] = {}  # reason -> how many bots
    explored: bool = False
    propensity: float | None = None
    table_sequence: int = 0  # of the newest fact that the scheduler's table had counted; 0: there was none


class TaskSubmitted(Fact, frozen=True, kw_only=True):
    """A task was accepted. `body_hash` guards the idempotency key; `submitter` is the id of an access key.

    It is given to a bot only when all in `after` have come to what `after_policy` says. A task that another
    one spawned has `ancestors`: the root first, its parent last; its submitter is the root's.
    """

    task_id: TaskId
    type: TaskType
    type_reason: str
    content: str
    priority: Priority
    submitter: str
    body_hash: str
    timeout_s: float
    input: str | None = None
    input_file: FileRef | None = None
    engine: str | None = None
    bot: BotId | None = None
    pool: str | None = None
    deadline: datetime | None = None
    retry: RetryPolicy = RetryPolicy()
    after: tuple[TaskId, ...] = ()
    after_policy: AfterPolicy = AfterPolicy.COMPLETED
    ancestors: tuple[TaskId, ...] = ()
    spawned_by: BotId | None = None


class DependenciesMet(Fact, frozen=True, kw_only=True):
    """All that it comes after have come to what was asked: from now on it waits for a bot."""

    task_id: TaskId


class TaskAssigned(Fact, frozen=True, kw_only=True):
    """A bot is to do it. The sequence of this commit is the attempt's fencing token."""

    task_id: TaskId
    bot_id: BotId
    attempt: int
    decision: Decision


class AssignmentWithdrawn(Fact, frozen=True, kw_only=True):
    """The bot did not take it in time, or is going away; this was no attempt."""

    task_id: TaskId
    bot_id: BotId
    token: int
    reason: str


class TaskStarted(Fact, frozen=True, kw_only=True):
    """The bot works on it."""

    task_id: TaskId
    bot_id: BotId
    token: int


class TaskCompleted(Fact, frozen=True, kw_only=True):
    """Done. Times are the bot's own clock."""

    task_id: TaskId
    bot_id: BotId
    token: int
    attempt: int
    started_at: datetime
    ended_at: datetime
    output: Output
    usage: Usage = Usage()


class AttemptFailed(Fact, frozen=True, kw_only=True):
    """The attempt came to a bad end that is known. `retry_at`: when the next may start, None: never."""

    task_id: TaskId
    bot_id: BotId
    token: int
    attempt: int
    error: TaskError
    started_at: datetime
    ended_at: datetime
    output: Output = Output()
    usage: Usage = Usage()
    retry_at: datetime | None = None
    retryable: bool = True  # False: another try, by whomever, would end alike


class AttemptLost(Fact, frozen=True, kw_only=True):
    """Nobody knows how the attempt ended: the bot died, fell silent, or did not come back in time."""

    task_id: TaskId
    bot_id: BotId
    token: int
    attempt: int
    reason: str
    retry_at: datetime | None = None


class TaskBlocked(Fact, frozen=True, kw_only=True):
    """A person must look: running it again might do harm."""

    task_id: TaskId
    reason: str


class TaskResumed(Fact, frozen=True, kw_only=True):
    """A person looked, and it may run again."""

    task_id: TaskId


class TaskFailed(Fact, frozen=True, kw_only=True):
    """Given up: no further attempt."""

    task_id: TaskId
    error: TaskError
    attempts: int


class TaskCancelled(Fact, frozen=True, kw_only=True):
    """Someone no longer wants it; a bot that works on it is told to stop."""

    task_id: TaskId
    reason: str
    bot_id: BotId | None = None


class TreeCancelled(Fact, frozen=True, kw_only=True):
    """It has ended, and all that descends from it is no longer wanted."""

    task_id: TaskId
    reason: str


class TaskExpired(Fact, frozen=True, kw_only=True):
    """Its deadline passed before it was done."""

    task_id: TaskId
    deadline: datetime
    bot_id: BotId | None = None


TaskFact = (
    TaskSubmitted
    | DependenciesMet
    | TaskAssigned
    | AssignmentWithdrawn
    | TaskStarted
    | TaskCompleted
    | AttemptFailed
    | AttemptLost
    | TaskBlocked
    | TaskResumed
    | TaskFailed
    | TaskCancelled
    | TreeCancelled
    | TaskExpired
)


MEMORY_MB_MIN: Final = 64  # a Python starts with less, and does little more
MEMORY_MB_MAX: Final = 1_048_576
MemoryMb = Annotated[int, msgspec.Meta(ge=MEMORY_MB_MIN, le=MEMORY_MB_MAX)]


class BotSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bot is: its engine, what it may be given, and where it runs. Empty `types`: all types."""

    engine: str
    types: tuple[TaskType, ...] = ()
    slots: int = 3
    pool: str = "default"
    workspace: str | None = None  # a folder under a root allowed at the host; None: one of its own
    env: tuple[str, ...] = ()  # names that the host may hand on
    argv: tuple[str, ...] = ()  # of the engine `command`; `{input}` stands for the task's text
    allow: tuple[str, ...] = ()  # of the engine `shell`: programs allowed besides the host's list
    host: str = "local"
    restart: RestartPolicy = RestartPolicy()
    memory_mb: MemoryMb | None = None  # for each process of its programs; None: the host's own limit


class BotLaunched(Fact, frozen=True, kw_only=True):
    """A bot is wanted. A retired name that is launched again is the same bot with a new generation."""

    bot_id: BotId
    spec: BotSpec
    generation: int


class BotCameUp(Fact, frozen=True, kw_only=True):
    """Its process answered for the first time in this generation."""

    bot_id: BotId
    generation: int
    pid: int
    host: str


class BotWentSilent(Fact, frozen=True, kw_only=True):
    """No heartbeat for BOT_IS_SILENT_AFTER; what it held is lost."""

    bot_id: BotId
    generation: int


class BotHeardAgain(Fact, frozen=True, kw_only=True):
    """A silent bot answers again."""

    bot_id: BotId
    generation: int


class BotDied(Fact, frozen=True, kw_only=True):
    """Its process ended unasked. `restart_at` is when it is started again; None: it is left alone."""

    bot_id: BotId
    generation: int
    reason: str
    crashes: int
    restart_at: datetime | None = None


class BotRestarted(Fact, frozen=True, kw_only=True):
    """A new process is wanted for it, as `generation`."""

    bot_id: BotId
    generation: int
    reason: str


class BotLaunchFailed(Fact, frozen=True, kw_only=True):
    """Its host says it cannot run: the error names the field and the remedy."""

    bot_id: BotId
    generation: int
    error: TaskError


class BotStopRequested(Fact, frozen=True, kw_only=True):
    """It shall end what it does and stop; new work goes elsewhere."""

    bot_id: BotId
    generation: int


class BotStopped(Fact, frozen=True, kw_only=True):
    """Its process is gone, as asked."""

    bot_id: BotId
    generation: int


class BotRetired(Fact, frozen=True, kw_only=True):
    """Gone for good: its broker user is revoked, its queue emptied; its history stays."""

    bot_id: BotId
    generation: int


class CircuitOpened(Fact, frozen=True, kw_only=True):
    """Too many of its attempts failed, or somebody asked: it is given nothing until then.

    `failures` of `attempts` that were looked at; `trial`: it was half open, and the trial failed.
    """

    bot_id: BotId
    reason: str
    until: datetime
    failures: int = 0
    attempts: int = 0
    trial: bool = False


class CircuitHalfOpened(Fact, frozen=True, kw_only=True):
    """It is tried again: one task at a time."""

    bot_id: BotId


class CircuitClosed(Fact, frozen=True, kw_only=True):
    """It is given tasks like any other; what was before does not count any more."""

    bot_id: BotId
    reason: str


BotFact = (
    BotLaunched
    | BotCameUp
    | BotWentSilent
    | BotHeardAgain
    | BotDied
    | BotRestarted
    | BotLaunchFailed
    | BotStopRequested
    | BotStopped
    | BotRetired
    | CircuitOpened
    | CircuitHalfOpened
    | CircuitClosed
)
