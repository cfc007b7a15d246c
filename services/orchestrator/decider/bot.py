"""The life of a bot: wanted, up, and up again after each death until it has died too often; stopped; retired.

Each process of a bot is a generation. What is said of an older generation is too late, and changes nothing.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

from services.orchestrator.commands import (
    BotWish,
    MendCircuit,
    NoteBotCleared,
    NoteBotDead,
    NoteBotHeard,
    NoteBotSilent,
    NoteBotStopped,
    NoteBotUp,
    NoteLaunchFailed,
    RestartDeadBot,
    TripCircuit,
    TryCircuit,
)
from services.orchestrator.decider.bot_state import (
    Bot,
    Broken,
    Known,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
    evolve,
)
from services.orchestrator.decider.circuit import decide as decide_circuit
from services.orchestrator.facts import BotCleared, BotEvent
from shared.contracts.orchestrator.commands import (
    CloseCircuit,
    LaunchBot,
    OpenCircuit,
    ReportBotExit,
    RestartBot,
    RetireBot,
    StartBot,
    StopBot,
)
from shared.contracts.orchestrator.facts import (
    BotCameUp,
    BotDied,
    BotHeardAgain,
    BotLaunched,
    BotLaunchFailed,
    BotRestarted,
    BotRetired,
    BotStopped,
    BotStopRequested,
    BotWentSilent,
)
from shared.contracts.words import BotId
from shared.kernel.backoff import backoff, spread
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

STEADY_AFTER: Final = timedelta(seconds=60)
"""A process that ran so long did not crash at its start: the count of crashes in a row begins again."""

LEFT: Final = "exit 0"
"""How a process ends that was told to leave, as all are when their host is stopped: no crash."""


def decide(bot: Bot, command: BotWish, at: datetime) -> list[BotEvent]:
    """The facts that follow from a command, none if it is already so."""
    match command:
        case LaunchBot():
            return _launch(bot, command)
        case StartBot():
            return _start(_known(bot, command.bot_id), command)
        case StopBot():
            return _stop(_known(bot, command.bot_id), command)
        case RestartBot():
            return _restart(_known(bot, command.bot_id), command)
        case RetireBot():
            return _retire(_known(bot, command.bot_id), command)
        case ReportBotExit():
            return _exit(_known(bot, command.bot_id), command, at)
        case NoteBotDead():
            return _dead(bot, command, at)
        case NoteBotUp():
            return _up(bot, command)
        case NoteBotSilent():
            return _silent(bot, command)
        case NoteBotHeard():
            return _heard(bot, command)
        case NoteLaunchFailed():
            return _launch_failed(bot, command)
        case NoteBotStopped():
            return _stopped(bot, command)
        case RestartDeadBot():
            return _restart_dead(bot, command, at)
        case NoteBotCleared():
            return _cleared(bot, command)
        case OpenCircuit() | CloseCircuit():
            known = _known(bot, command.bot_id)
            if isinstance(known, Retired):
                raise _retired(command.bot_id)
            return [*decide_circuit(known.circuit, command, at)]
        case TripCircuit() | TryCircuit() | MendCircuit():
            return [] if isinstance(bot, NoBot | Retired) else [*decide_circuit(bot.circuit, command, at)]
        case _:
            assert_never(command)


def _known(bot: Bot, bot_id: BotId) -> Known:
    if isinstance(bot, NoBot):
        raise Rejected("bot_not_found", f"there is no bot {bot_id}")
    return bot


def _launch(bot: Bot, command: LaunchBot) -> list[BotEvent]:
    match bot:
        case NoBot():
            return [BotLaunched(bot_id=command.bot_id, spec=command.spec, generation=1)]
        case Retired(cleared=True):
            return [BotLaunched(bot_id=command.bot_id, spec=command.spec, generation=bot.generation + 1)]
        case Retired():
            raise Rejected(
                "bot_retiring",
                f"{command.bot_id} was retired, and its host has not yet removed it: try again in a moment",
            )
        case Broken(tried=False):  # it never was anything: what is wrong with it may be corrected
            return [BotLaunched(bot_id=command.bot_id, spec=command.spec, generation=bot.generation + 1)]
        case Restarting(tried=False) if bot.spec != command.spec:
            return [BotLaunched(bot_id=command.bot_id, spec=command.spec, generation=bot.generation + 1)]
        case Starting() | Up() | Stopping() | Stopped() | Restarting() | Broken():
            if bot.spec == command.spec:
                return []
            raise Rejected(
                "bot_exists",
                f"{command.bot_id} exists and is otherwise: retire it first, or choose another name",
            )
        case _:
            assert_never(bot)


def _start(bot: Known, command: StartBot) -> list[BotEvent]:
    match bot:
        case Starting() | Up():
            return []
        case Stopping() | Stopped() | Restarting() | Broken():
            return [_restarted(bot, command.bot_id, "asked")]
        case Retired():
            raise _retired(command.bot_id)
        case _:
            assert_never(bot)


def _stop(bot: Known, command: StopBot) -> list[BotEvent]:
    asked = BotStopRequested(bot_id=command.bot_id, generation=bot.generation)
    match bot:
        case Starting() | Up():
            return [asked]
        case Restarting() | Broken():  # there is no process
            return [asked, BotStopped(bot_id=command.bot_id, generation=bot.generation)]
        case Stopping() | Stopped():
            return []
        case Retired():
            raise _retired(command.bot_id)
        case _:
            assert_never(bot)


def _restart(bot: Known, command: RestartBot) -> list[BotEvent]:
    match bot:
        case Starting():
            return []
        case Up() | Stopping() | Stopped() | Restarting() | Broken():
            return [_restarted(bot, command.bot_id, command.reason)]
        case Retired():
            raise _retired(command.bot_id)
        case _:
            assert_never(bot)


def _retire(bot: Known, command: RetireBot) -> list[BotEvent]:
    if isinstance(bot, Retired):
        return []
    return [BotRetired(bot_id=command.bot_id, generation=bot.generation)]


def _exit(bot: Known, command: ReportBotExit, at: datetime) -> list[BotEvent]:
    if command.generation != bot.generation:
        return []
    match bot:
        case Starting() | Up():
            return [_died(bot, command.bot_id, command.reason, at, crashed=command.reason != LEFT)]
        case Stopping():
            return [BotStopped(bot_id=command.bot_id, generation=bot.generation)]
        case Stopped() | Restarting() | Broken() | Retired():
            return []
        case _:
            assert_never(bot)


def _dead(bot: Bot, command: NoteBotDead, at: datetime) -> list[BotEvent]:
    if isinstance(bot, Up) and bot.generation == command.generation and bot.up_at < command.seen_at:
        return [_died(bot, command.bot_id, command.reason, at, crashed=command.crashed)]
    return []


def _died(bot: Starting | Up, bot_id: BotId, reason: str, at: datetime, *, crashed: bool) -> BotDied:
    steady = isinstance(bot, Up) and at - bot.up_at >= STEADY_AFTER
    crashes = (0 if steady else bot.crashes) + crashed
    policy = bot.spec.restart
    restart_at = None
    if policy.restart == "always" and crashes < policy.crashes_max:
        wait = backoff(policy.backoff_first_s, policy.backoff_max_s, max(1, crashes))
        restart_at = at + spread(wait, bot_id, str(bot.generation))
    return BotDied(
        bot_id=bot_id, generation=bot.generation, reason=reason, crashes=crashes, restart_at=restart_at
    )


def _up(bot: Bot, command: NoteBotUp) -> list[BotEvent]:
    if isinstance(bot, Starting) and bot.generation == command.generation:
        return [
            BotCameUp(
                bot_id=command.bot_id,
                generation=command.generation,
                pid=command.pid,
                host=command.host,
            )
        ]
    return []


def _silent(bot: Bot, command: NoteBotSilent) -> list[BotEvent]:
    match bot:
        case Up(generation=command.generation, silent=False):
            return [BotWentSilent(bot_id=command.bot_id, generation=bot.generation)]
        case _:
            return []


def _heard(bot: Bot, command: NoteBotHeard) -> list[BotEvent]:
    match bot:
        case Up(generation=command.generation, silent=True):
            return [BotHeardAgain(bot_id=command.bot_id, generation=bot.generation)]
        case _:
            return []


def _launch_failed(bot: Bot, command: NoteLaunchFailed) -> list[BotEvent]:
    match bot:
        case Starting(generation=command.generation):
            return [BotLaunchFailed(bot_id=command.bot_id, generation=bot.generation, error=command.error)]
        case _:
            return []


def _stopped(bot: Bot, command: NoteBotStopped) -> list[BotEvent]:
    match bot:
        case Stopping(generation=command.generation):
            return [BotStopped(bot_id=command.bot_id, generation=bot.generation)]
        case _:
            return []


def _restart_dead(bot: Bot, command: RestartDeadBot, at: datetime) -> list[BotEvent]:
    match bot:
        case Restarting(generation=command.generation) if bot.restart_at <= at:
            reason = f"died, {bot.crashes} in a row" if bot.crashes else "its process was gone"
            return [_restarted(bot, command.bot_id, reason)]
        case _:
            return []


def _cleared(bot: Bot, command: NoteBotCleared) -> list[BotEvent]:
    match bot:
        case Retired(generation=command.generation, cleared=False):
            return [BotCleared(bot_id=command.bot_id, generation=bot.generation)]
        case _:
            return []


def _restarted(bot: Known, bot_id: BotId, reason: str) -> BotRestarted:
    return BotRestarted(bot_id=bot_id, generation=bot.generation + 1, reason=reason)


def _retired(bot_id: BotId) -> Rejected:
    return Rejected("bot_retired", f"{bot_id} is retired: launch it again to have it back")


BOT: Final = Decider[Bot, BotWish, BotEvent](initial=NoBot(), evolve=evolve, decide=decide)
