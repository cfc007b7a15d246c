"""Pools that size themselves: what is said of them, asked of them, and asked about them."""

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, NewType

import msgspec

from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.words import BotId, Page
from shared.kernel.messages import Command, Fact, Query

PoolName = NewType("PoolName", str)

POOL_NAME_PATTERN: Final = r"^[A-Za-z0-9_-]{1,40}(?!\n)$"
"""A bot of the pool is `<pool>-<number>`, and that must be a name, too."""

POOL_MIN_DEFAULT: Final = 1
POOL_MAX_DEFAULT: Final = 10
POOL_BOTS_MAX: Final = 200  # bots of one pool

Bound = Annotated[int, msgspec.Meta(ge=1, le=POOL_BOTS_MAX)]
Direction = Literal["up", "down", "hold"]


class Readings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was known of a pool when it was looked at.

    `queue`: tasks that wait and that its bots could do. `load`: the taken part of all slots; `bot_load`: the
    same for each bot, on average. `clear_s`: how long the queue lasts at the known run times, if these are
    known. `cpu_share`, `memory_share`: of the host that its bots are launched on; None: it did not say.
    """

    size: int
    queue: int
    bots_up: int
    slots: int
    held: int
    load: float
    bot_load: float
    broken: int = 0  # bots that cannot run
    idle: int = 0  # bots that hold nothing and were launched by the pool
    longest_idle_s: float = 0.0
    mean_run_s: float | None = None
    clear_s: float | None = None
    host: str = "local"
    host_heard: bool = True
    cpu_share: float | None = None
    memory_share: float | None = None


class PoolConfigured(Fact, frozen=True, kw_only=True):
    """A pool shall have so many bots. Those that it launches are as the template says."""

    name: PoolName
    min: int
    max: int
    template: BotSpec
    enabled: bool = True


class PoolScaled(Fact, frozen=True, kw_only=True):
    """A pool grew by these bots or gave these up; or could not, though it should have: `hold`.

    `code` is for programs, `reason` for people, `readings` is what it was decided by.
    """

    name: PoolName
    decision: Direction
    before: int = msgspec.field(name="from")
    after: int = msgspec.field(name="to")
    bots: tuple[BotId, ...] = ()
    code: str
    reason: str
    readings: Readings


PoolFact = PoolConfigured | PoolScaled


class ConfigurePool(Command, frozen=True, kw_only=True):
    """There shall be such a pool. Without a template it keeps the one that it has."""

    service: ClassVar[str] = "orchestrator"
    aggregate: ClassVar[str] = "pool"
    key_field: ClassVar[str] = "name"
    senders: ClassVar[frozenset[str]] = frozenset({"gateway"})

    name: PoolName
    min: int = POOL_MIN_DEFAULT
    max: int = POOL_MAX_DEFAULT
    template: BotSpec | None = None
    enabled: bool = True


PoolRequest = ConfigurePool


class PoolDecision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision as it stands in the log; without a sequence it is what would be decided now."""

    decision: Direction
    before: int = msgspec.field(name="from")
    after: int = msgspec.field(name="to")
    code: str
    reason: str
    at: datetime
    readings: Readings
    bots: tuple[BotId, ...] = ()
    sequence: int | None = None


class PoolDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A pool, and what would be decided now. `bots` are those that it launched."""

    name: PoolName
    version: int
    enabled: bool
    min: int
    max: int
    size: int
    template: BotSpec
    bots: tuple[BotId, ...]
    leaving: tuple[BotId, ...]
    scaled_at: datetime | None
    changed_at: datetime
    now: PoolDecision


class GetPool(Query[PoolDoc], frozen=True, kw_only=True):
    """One pool. NotFound: `pool_not_found`."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = PoolDoc

    name: PoolName
    at_least: int = 0


class ListPools(Query[Page[PoolDoc]], frozen=True, kw_only=True):
    """Pools by name; `limit` 1 to 200."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[PoolDoc]

    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class ListPoolDecisions(Query[Page[PoolDecision]], frozen=True, kw_only=True):
    """How a pool was scaled, and what kept it from that; newest first."""

    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = Page[PoolDecision]

    name: PoolName
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0
