"""What a bot is at any moment, and how facts change it."""

from datetime import datetime
from typing import assert_never

import msgspec

from services.orchestrator.decider.circuit import Circuit, Closed
from services.orchestrator.decider.circuit import evolve as evolve_circuit
from services.orchestrator.facts import BotCleared, BotEvent
from shared.contracts.orchestrator.facts import (
    BotCameUp,
    BotDied,
    BotHeardAgain,
    BotLaunched,
    BotLaunchFailed,
    BotRestarted,
    BotRetired,
    BotSpec,
    BotStopped,
    BotStopRequested,
    BotWentSilent,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
)


class NoBot(msgspec.Struct, frozen=True):
    """Nobody has launched a bot of this name yet."""


class Starting(msgspec.Struct, frozen=True):
    """A process of this generation is wanted, and has not answered yet. `crashes` in a row led here.

    `tried`: a process of this bot did answer once, since it was launched.
    """

    spec: BotSpec
    generation: int
    since: datetime
    crashes: int = 0
    tried: bool = False
    circuit: Circuit = Closed()


class Up(msgspec.Struct, frozen=True):
    """Its process answers; `silent`: it did. What was assigned before `token` is not its own."""

    spec: BotSpec
    generation: int
    up_at: datetime
    token: int
    pid: int
    host: str
    crashes: int = 0
    silent: bool = False
    circuit: Circuit = Closed()


class Stopping(msgspec.Struct, frozen=True):
    """It ends what it does, and takes nothing new."""

    spec: BotSpec
    generation: int
    since: datetime
    circuit: Circuit = Closed()


class Stopped(msgspec.Struct, frozen=True):
    """Its process is gone, as asked."""

    spec: BotSpec
    generation: int
    circuit: Circuit = Closed()


class Restarting(msgspec.Struct, frozen=True):
    """It died, and is started again at `restart_at`."""

    spec: BotSpec
    generation: int
    crashes: int
    restart_at: datetime
    tried: bool = True
    circuit: Circuit = Closed()


class Broken(msgspec.Struct, frozen=True):
    """It cannot run, or died too often: it is left alone until someone starts it."""

    spec: BotSpec
    generation: int
    reason: str
    tried: bool = True
    circuit: Circuit = Closed()


class Retired(msgspec.Struct, frozen=True):
    """Gone for good. `cleared`: what it left is removed, and the name is free."""

    spec: BotSpec
    generation: int
    cleared: bool = False
    circuit: Circuit = Closed()


LifeEvent = (
    BotCameUp
    | BotWentSilent
    | BotHeardAgain
    | BotDied
    | BotRestarted
    | BotLaunchFailed
    | BotStopRequested
    | BotStopped
    | BotRetired
    | BotCleared
)
Known = Starting | Up | Stopping | Stopped | Restarting | Broken | Retired
Bot = NoBot | Known


def evolve(bot: Bot, fact: BotEvent, sequence: int, at: datetime) -> Bot:
    """The bot after one of its facts.

    A fact that does not fit changes nothing: only a view that runs ahead sees one.
    """
    if isinstance(fact, BotLaunched):
        return Starting(spec=fact.spec, generation=fact.generation, since=at, circuit=Closed(since=sequence))
    if isinstance(bot, NoBot):
        return bot
    if isinstance(fact, CircuitOpened | CircuitHalfOpened | CircuitClosed):
        return msgspec.structs.replace(bot, circuit=evolve_circuit(bot.circuit, fact, sequence))
    after = _live_on(bot, fact, sequence, at)
    return after if after.circuit is bot.circuit else msgspec.structs.replace(after, circuit=bot.circuit)


def _live_on(bot: Known, fact: LifeEvent, sequence: int, at: datetime) -> Known:
    """Its circuit aside."""
    match fact:
        case BotCameUp():
            return Up(
                spec=bot.spec,
                generation=fact.generation,
                up_at=at,
                token=sequence,
                pid=fact.pid,
                host=fact.host,
                crashes=bot.crashes if isinstance(bot, Starting) else 0,
            )
        case BotWentSilent():
            return msgspec.structs.replace(bot, silent=True) if isinstance(bot, Up) else bot
        case BotHeardAgain():
            return msgspec.structs.replace(bot, silent=False) if isinstance(bot, Up) else bot
        case BotDied(restart_at=None):
            in_a_row = f", {fact.crashes} in a row" if fact.crashes > 1 else ""
            reason = f"its process died ({fact.reason}){in_a_row}"
            return Broken(spec=bot.spec, generation=bot.generation, reason=reason, tried=_tried(bot))
        case BotDied():
            assert fact.restart_at is not None
            return Restarting(
                spec=bot.spec,
                generation=bot.generation,
                crashes=fact.crashes,
                restart_at=fact.restart_at,
                tried=_tried(bot),
            )
        case BotRestarted():
            crashes = bot.crashes if isinstance(bot, Restarting) else 0
            return Starting(
                spec=bot.spec, generation=fact.generation, since=at, crashes=crashes, tried=_tried(bot)
            )
        case BotLaunchFailed():
            return Broken(
                spec=bot.spec, generation=bot.generation, reason=fact.error.detail, tried=_tried(bot)
            )
        case BotStopRequested():
            return Stopping(spec=bot.spec, generation=bot.generation, since=at)
        case BotStopped():
            return Stopped(spec=bot.spec, generation=bot.generation)
        case BotRetired():
            return Retired(spec=bot.spec, generation=bot.generation)
        case BotCleared():
            return Retired(spec=bot.spec, generation=bot.generation, cleared=True)
        case _:
            assert_never(fact)


def _tried(bot: Known) -> bool:
    """Whether a process of it ever answered; what is not known counts as that."""
    return bot.tried if isinstance(bot, Starting | Restarting | Broken) else True
