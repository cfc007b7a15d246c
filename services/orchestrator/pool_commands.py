"""What only the orchestrator asks of a pool, and what it knows when it asks."""

from typing import ClassVar

import msgspec

from shared.contracts.orchestrator.pools import PoolName, PoolRequest, Readings
from shared.contracts.scaling import Scaling
from shared.contracts.words import BotId
from shared.kernel.messages import Command


class Idle(msgspec.Struct, frozen=True):
    """A bot that the pool launched and that holds nothing, and for how long."""

    bot_id: BotId
    idle_s: float


class ScalePool(Command, frozen=True, kw_only=True):
    """Look whether the pool should grow or shrink.

    `about` is the version of the pool that this is about. `idle`: whom it could stop, the longest idle first;
    `names`: what new bots may be called.
    """

    service: ClassVar[str] = "orchestrator"
    aggregate: ClassVar[str] = "pool"
    key_field: ClassVar[str] = "name"
    senders: ClassVar[frozenset[str]] = frozenset()

    name: PoolName
    about: int
    readings: Readings
    rules: Scaling
    idle: tuple[Idle, ...] = ()
    names: tuple[BotId, ...] = ()


PoolWish = PoolRequest | ScalePool
