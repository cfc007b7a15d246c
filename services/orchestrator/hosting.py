"""What is outstanding about bots: their processes, who fell silent, whose time to restart has come.

Orders are level-triggered: a host says each second what runs there, and is told again until that is what is
wanted.
"""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Final, assert_never

from services.orchestrator.board import Board, BotChange, BotEntry
from services.orchestrator.commands import (
    NoteBotDead,
    NoteBotHeard,
    NoteBotSilent,
    NoteBotStopped,
    NoteBotUp,
    OwnBotCommand,
    RestartDeadBot,
)
from services.orchestrator.decider.bot_state import (
    Broken,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
)
from services.orchestrator.hosts import Report, is_external
from services.orchestrator.liveness import SILENT_AFTER_S
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.steps import ClearBot, Decide, MakeQueue, StartProcess, Step, StopProcess, Tell
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.protocol import Drain, Heartbeat
from shared.contracts.words import HEARTBEAT_INTERVAL, BotId

REPORT_COUNTS_AFTER: Final = timedelta(seconds=2)
"""A report so much younger than a change shows it: it was made after the host could know."""

ORDER_AGAIN_AFTER_S: Final = 3.0
"""A host that took an order shows it in one of its next reports, one a second."""

REPLACE_AGAIN_AFTER_S: Final = 0.5
"""A process that is to take another's place is asked for so often until the other is gone."""

BEAT_MISSED_AFTER_S: Final = 1.5 * HEARTBEAT_INTERVAL.total_seconds()
"""A process that its host does not show, and that has missed a heartbeat, is gone."""

HUNG_AFTER_S: Final = 15.0
"""A process that runs but has said nothing for so long is beyond hope."""

STRANGERS_AFTER_S: Final = 5.0
"""So long after we began to listen, whoever is not on the board is not wanted: the board is never so late."""

RESTART_GRACE_S: Final = 1.0
"""How long an unwanted process may take to go; what it held is lost already."""

assert SILENT_AFTER_S < HUNG_AFTER_S


def heard(board: Board, heartbeat: Heartbeat) -> list[Step]:
    """What follows from a heartbeat of the wanted process."""
    entry = board.bots[heartbeat.bot_id]
    state = entry.state
    match state:
        case Starting():
            up = NoteBotUp(
                bot_id=heartbeat.bot_id,
                generation=state.generation,
                pid=heartbeat.pid,
                host=heartbeat.host,
            )
            return [_decide(entry, up)]
        case Up(silent=True):
            return [_decide(entry, NoteBotHeard(bot_id=heartbeat.bot_id, generation=state.generation))]
        case NoBot() | Up() | Stopping() | Stopped() | Restarting() | Broken() | Retired():
            return []
        case _:
            assert_never(state)


def after_bot(scene: Scene, change: BotChange, moment: Moment) -> list[Step]:
    """What follows from a change of a bot, if it is ours."""
    entry = scene.board.bots.get(change.bot_id)
    if entry is None or entry.partition not in scene.board.owned:
        return []
    drain: list[Step] = [Tell(change.bot_id, Drain())] if isinstance(change.after, Stopping) else []
    return [*drain, *_outstanding(scene, change.bot_id, moment)]


def outstanding_bots(scene: Scene, moment: Moment, bots: Iterable[BotId] | None = None) -> list[Step]:
    """What is outstanding about our bots, or these of them."""
    board = scene.board
    return [
        step
        for bot_id in list(board.bots if bots is None else bots)
        if board.bots[bot_id].partition in board.owned
        for step in _outstanding(scene, bot_id, moment)
    ]


def strangers(scene: Scene, moment: Moment) -> list[Step]:
    """What runs though no bot of ours has its name: all that was known of it is cleared."""
    board = scene.board
    if moment.mono - scene.liveness.since < STRANGERS_AFTER_S:
        return []
    return [
        StopProcess(bot_id, generation, host, RESTART_GRACE_S)
        for host, report in scene.hosts.reports.items()
        for bot_id, generation in report.running.items()
        if bot_id not in board.bots and partition_of(bot_id) in board.owned
    ]


def missing_queues(scene: Scene) -> list[Step]:
    """The queues that our bots pull from and that a restart of the broker may have taken."""
    bots = scene.board.bots
    return [
        MakeQueue(bot_id)
        for bot_id in scene.queues.missing(bots)
        if bots[bot_id].partition in scene.board.owned
        and isinstance(bots[bot_id].state, Starting | Up | Stopping)
    ]


def _outstanding(scene: Scene, bot_id: BotId, moment: Moment) -> list[Step]:
    entry, liveness = scene.board.bots[bot_id], scene.liveness
    state = entry.state
    if isinstance(state, Up) and liveness.quiet_s(bot_id, moment.mono) <= BEAT_MISSED_AFTER_S:
        return []  # as nearly all of them nearly always
    if isinstance(state, NoBot):
        return []
    host = scene.hosts.home(state.spec)
    report = scene.hosts.reports.get(host)
    runs = None if report is None else report.running.get(bot_id)
    external = is_external(state.spec)
    match state:
        case Starting():
            return _start(scene, bot_id, state, runs, moment.mono)
        case Up() if not state.silent and liveness.is_silent(bot_id, moment.mono):
            return [_decide(entry, NoteBotSilent(bot_id=bot_id, generation=state.generation))]
        case Up() if report is not None and not external:
            reason = _why_dead(state, report, runs, liveness.quiet_s(bot_id, moment.mono))
            if reason is None:
                return []
            dead = NoteBotDead(
                bot_id=bot_id,
                generation=state.generation,
                reason=reason,
                seen_at=report.at,
                crashed=runs == state.generation,
            )
            return [_decide(entry, dead)]
        case Up():
            return []
        case Stopping() if external:
            if not liveness.is_silent(bot_id, moment.mono):
                return []
            return [_decide(entry, NoteBotStopped(bot_id=bot_id, generation=state.generation))]
        case Stopping() if runs is not None:
            return [StopProcess(bot_id, state.generation, host, moment.config.stop_grace_s)]
        case Stopping() if report is not None and report.at > state.since + REPORT_COUNTS_AFTER:
            return [_decide(entry, NoteBotStopped(bot_id=bot_id, generation=state.generation))]
        case Stopping():
            return []
        case Restarting() if state.restart_at <= moment.utc:
            return [_decide(entry, RestartDeadBot(bot_id=bot_id, generation=state.generation))]
        case Retired(cleared=False):
            return [ClearBot(bot_id, state.generation, host, entry.cause, entry.line.version)]
        case Stopped() | Restarting() | Broken() | Retired():
            if runs is None or runs > state.generation:
                return []
            return [StopProcess(bot_id, state.generation, host, RESTART_GRACE_S)]
        case _:
            assert_never(state)


def _start(scene: Scene, bot_id: BotId, state: Starting, runs: int | None, mono: float) -> list[Step]:
    entry, host = scene.board.bots[bot_id], scene.hosts.home(state.spec)
    start = StartProcess(bot_id, state.generation, state.spec, entry.cause, entry.line.version)
    if runs is not None and runs < state.generation:
        # The next one starts when the old one is gone, which the host knows before its report shows it.
        if scene.hosts.was_ordered(bot_id, state.generation, mono, REPLACE_AGAIN_AFTER_S):
            return []
        return [StopProcess(bot_id, runs, host, RESTART_GRACE_S), start]
    if runs == state.generation:
        return []
    # Nobody's report will ever show a bot that others run: one order that was taken is enough.
    within_s = math.inf if is_external(state.spec) else ORDER_AGAIN_AFTER_S
    if scene.hosts.was_ordered(bot_id, state.generation, mono, within_s):
        return []
    return [start]


def _why_dead(state: Up, report: Report, runs: int | None, quiet_s: float) -> str | None:
    """Why a process that reported no exit must be gone, or beyond hope."""
    if runs == state.generation:
        return f"said nothing for {HUNG_AFTER_S:g} s" if state.silent and quiet_s > HUNG_AFTER_S else None
    if report.at > state.up_at + REPORT_COUNTS_AFTER and quiet_s > BEAT_MISSED_AFTER_S:
        return "its host does not run it any more"
    return None


def _decide(entry: BotEntry, command: OwnBotCommand) -> Decide:
    return Decide(command, entry.cause, entry.line.version)
