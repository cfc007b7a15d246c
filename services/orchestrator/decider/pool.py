"""The life of a pool: people say how many bots it may have, and the pool decides how many it has.

Two who scale at the same time cannot both: each decision is about one version of the pool.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec

from services.orchestrator.facts import PoolEvent
from services.orchestrator.pool_commands import PoolWish, ScalePool
from services.orchestrator.scaling import Bounds, Down, Hold, Up, plan
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.pools import (
    POOL_BOTS_MAX,
    ConfigurePool,
    PoolConfigured,
    PoolName,
    PoolScaled,
)
from shared.contracts.words import BotId
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

HOLDS_APART: Final = timedelta(seconds=30)
"""That a pool cannot be scaled is on record once; for another reason not sooner than so much later."""


TO_THE_BOUNDS: Final = frozenset({"below_min", "above_max"})
"""What people asked for begins no pause: a new pool has its first bot, and grows when it is flooded."""


class NoPool(msgspec.Struct, frozen=True, tag="none"):
    """Nobody has configured a pool of this name."""


class Member(msgspec.Struct, frozen=True):
    """A bot that the pool wanted, or gave up, at this sequence."""

    bot_id: BotId
    since: int
    at: datetime


class Pool(msgspec.Struct, frozen=True, kw_only=True, tag="pool", omit_defaults=True):
    """A pool as its facts left it at `version`. `held`: why it was last held, if nothing came after that."""

    name: PoolName
    min: int
    max: int
    template: BotSpec
    enabled: bool
    version: int
    changed_at: datetime
    members: tuple[Member, ...] = ()
    leaving: tuple[Member, ...] = ()
    scaled_at: datetime | None = None
    held: str = ""
    held_at: datetime | None = None


PoolState = NoPool | Pool

_change = msgspec.structs.replace


def evolve(pool: PoolState, fact: PoolEvent, sequence: int, at: datetime) -> PoolState:
    """The pool after one of its facts."""
    match fact:
        case PoolConfigured():
            wanted = {"min": fact.min, "max": fact.max, "template": fact.template, "enabled": fact.enabled}
            if isinstance(pool, NoPool):
                return Pool(name=fact.name, version=sequence, changed_at=at, **wanted)  # type: ignore[arg-type]
            return _change(pool, version=sequence, changed_at=at, held="", **wanted)
        case PoolScaled():
            return pool if isinstance(pool, NoPool) else _scaled(pool, fact, sequence, at)
        case _:
            assert_never(fact)


def _scaled(pool: Pool, fact: PoolScaled, sequence: int, at: datetime) -> Pool:
    if fact.decision == "hold":
        return _change(pool, version=sequence, held=fact.code, held_at=at)
    named = tuple(Member(bot_id, sequence, at) for bot_id in fact.bots)
    members = tuple(each for each in pool.members if each.bot_id not in fact.bots)
    leaving = tuple(each for each in pool.leaving if each.bot_id not in fact.bots)
    if fact.decision == "up":
        members += named
    else:
        leaving += named
    scaled_at = pool.scaled_at if fact.code in TO_THE_BOUNDS else at
    return _change(pool, version=sequence, members=members, leaving=leaving, scaled_at=scaled_at, held="")


def decide(pool: PoolState, command: PoolWish, at: datetime) -> list[PoolEvent]:
    """The facts that follow from a command, none if it is already so."""
    match command:
        case ConfigurePool():
            return _configure(pool, command)
        case ScalePool():
            return [] if isinstance(pool, NoPool) else _scale(pool, command, at)
        case _:
            assert_never(command)


def bounds_of(pool: Pool, at: datetime) -> Bounds:
    """What its facts say about how it may be scaled at this time."""
    ago = None if pool.scaled_at is None else (at - pool.scaled_at).total_seconds()
    return Bounds(pool.min, pool.max, pool.enabled, ago, pool.template.slots)


def _configure(pool: PoolState, command: ConfigurePool) -> list[PoolEvent]:
    if not 1 <= command.min <= command.max <= POOL_BOTS_MAX:
        detail = f"`min` must be 1 at least and at most `max`, which may be {POOL_BOTS_MAX}"
        raise Rejected("bad_bounds", detail)
    template = command.template
    if template is None and isinstance(pool, NoPool):
        raise Rejected("template_missing", "a new pool needs a `template`: what its bots are to be")
    if template is None:
        assert isinstance(pool, Pool)
        template = pool.template
    if "external" in (template.engine, template.host):
        raise Rejected("bad_template", "bots that others run cannot be launched by a pool")
    wanted = PoolConfigured(
        name=command.name,
        min=command.min,
        max=command.max,
        template=_change(template, pool=command.name),
        enabled=command.enabled,
    )
    if isinstance(pool, Pool) and wanted == _configured(pool):
        return []
    return [wanted]


def _configured(pool: Pool) -> PoolConfigured:
    return PoolConfigured(
        name=pool.name, min=pool.min, max=pool.max, template=pool.template, enabled=pool.enabled
    )


def _scale(pool: Pool, command: ScalePool, at: datetime) -> list[PoolEvent]:
    if command.about != pool.version:
        return []
    readings = command.readings
    found = plan(bounds_of(pool, at), readings, command.idle, command.rules)
    match found:
        case Up():
            bots = command.names[: found.to - readings.size]
            return [_fact(pool, command, found, bots, readings.size + len(bots))] if bots else []
        case Down():
            return [_fact(pool, command, found, found.bots, readings.size - len(found.bots))]
        case Hold():
            recent = pool.held_at is not None and at - pool.held_at < HOLDS_APART
            if not found.against or found.code == pool.held or recent:
                return []
            return [_fact(pool, command, found, (), readings.size)]
        case _:
            assert_never(found)


def _fact(
    pool: Pool, command: ScalePool, found: Up | Down | Hold, bots: tuple[BotId, ...], after: int
) -> PoolScaled:
    match found:
        case Up():
            decision = "up"
        case Down():
            decision = "down"
        case Hold():
            decision = "hold"
        case _:
            assert_never(found)
    return PoolScaled(
        name=pool.name,
        decision=decision,  # type: ignore[arg-type]
        before=command.readings.size,
        after=after,
        bots=bots,
        code=found.code,
        reason=found.reason,
        readings=command.readings,
    )


POOL: Final = Decider[PoolState, PoolWish, PoolEvent](initial=NoPool(), evolve=evolve, decide=decide)
