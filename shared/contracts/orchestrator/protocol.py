"""What the orchestrator and a bot, or a host, say besides commands. See docs/bot-protocol.md."""

from datetime import datetime

import msgspec

from shared.contracts.orchestrator.facts import BotSpec, FileRef, Output, TaskError
from shared.contracts.words import BotId, SideEffects, TaskId, TaskType


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `run.<bot_id>`: do this.

    `token` goes into every word about the attempt; a token seen before is ignored.
    """

    task_id: TaskId
    token: int
    attempt: int
    type: TaskType
    content: str
    timeout_s: float
    chain: str
    side_effects: SideEffects = SideEffects.IDEMPOTENT
    input: str | None = None
    input_file: FileRef | None = None
    deadline: datetime | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that a bot holds; `progress` is 0 to 1 where the engine knows."""

    task_id: TaskId
    token: int
    progress: float | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `hb.<bot_id>`, as a request, each second and at once when something was taken."""

    bot_id: BotId
    generation: int
    pid: int
    host: str
    held: tuple[Held, ...] = ()
    free_slots: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0
    uptime_s: float = 0.0


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`held` are the tokens still the bot's; whatever it named besides is to be stopped.

    `stop`: leave altogether.
    """

    held: tuple[int, ...] = ()
    stop: bool = False
    drain: bool = False


class CancelRun(msgspec.Struct, frozen=True, kw_only=True, tag="cancel", tag_field="control"):
    """On `ctl.<bot_id>`, one way: stop this attempt now; the next heartbeat's answer says the same."""

    task_id: TaskId
    token: int
    reason: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain", tag_field="control"):
    """On `ctl.<bot_id>`: take nothing new; end when nothing is held."""


Control = CancelRun | Drain


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `live.<bot_id>.<task_id>`: a piece of output as it appears. `channel`: `out` or `err`."""

    task_id: TaskId
    token: int
    index: int
    text: str
    channel: str = "out"


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To `file.<bot_id>.put` (headers `Hive-Task`, `Hive-Token`; body: the bytes): its name, or an error."""

    sha256: str = ""
    error: str = ""


class ChildrenAsked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `children.<bot_id>`, as a request: how are those that this running attempt's task has spawned?

    Without `ids` all of them (at most CHILDREN_MAX). `until`: `now`, or when `any` or `all` of them have
    ended, but at most `within_s` (JOIN_WITHIN_S_MAX) from now.
    """

    task_id: TaskId
    token: int
    ids: tuple[TaskId, ...] = ()
    until: str = "now"
    within_s: float = 0.0


class Child(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of them, in a state as everybody sees it; `more`: its result did not fit, ask for it alone."""

    id: TaskId
    state: str
    output: Output | None = None
    error: TaskError | None = None
    reason: str | None = None
    more: bool = False


class ChildrenTold(msgspec.Struct, frozen=True, kw_only=True):
    """Those that were asked about, in the order of asking, else of spawning."""

    children: tuple[Child, ...]


class StartOrder(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="order"):
    """To a host: a process of this generation shall run. Repeated until the host's report shows it."""

    bot_id: BotId
    generation: int
    spec: BotSpec


class StopOrder(msgspec.Struct, frozen=True, kw_only=True, tag="stop", tag_field="order"):
    """To a host: no process up to this generation shall run. After `grace_s` it is killed."""

    bot_id: BotId
    generation: int
    grace_s: float = 10.0


class RetireOrder(msgspec.Struct, frozen=True, kw_only=True, tag="retire", tag_field="order"):
    """To a host: stop it, revoke its broker user, forget its credentials."""

    bot_id: BotId
    generation: int


HostOrder = StartOrder | StopOrder | RetireOrder


class HostAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`ok`, or a permanent refusal that names the field and the remedy."""

    ok: bool
    code: str = ""
    detail: str = ""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A process of a host."""

    bot_id: BotId
    generation: int
    pid: int
    rss_bytes: int = 0


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """On `host.<host_id>.report`, each second: all that runs there, and the engines it can start.

    `cpu_share`, `memory_share`: how much of the machine's processors and memory is in use, 0 to 1.
    """

    host_id: str
    running: tuple[Running, ...]
    engines: tuple[str, ...]
    cpu_share: float | None = None
    memory_share: float | None = None
