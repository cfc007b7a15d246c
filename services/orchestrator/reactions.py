"""What is outstanding: after a change at once, in full when time has passed. Nothing is decided here."""

from datetime import timedelta
from typing import Final, assert_never

from services.orchestrator.board import Board, Change, TaskChange, TaskEntry
from services.orchestrator.circuits import circuit_of, outstanding_circuits
from services.orchestrator.commands import (
    AssignTask,
    ExpireTask,
    LoseAttempt,
    NoteTaskStarted,
    OwnTaskCommand,
    WithdrawAssignment,
)
from services.orchestrator.decider.bot_state import (
    Bot,
    Broken,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
)
from services.orchestrator.decider.task_state import Blocked, Ended, Held, Task, Unknown, Waiting
from services.orchestrator.dependencies import outstanding_of_kin
from services.orchestrator.hosting import after_bot, missing_queues, outstanding_bots, strangers
from services.orchestrator.hosts import is_external
from services.orchestrator.liveness import Lease, Liveness
from services.orchestrator.placement import Choice
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.steps import Decide, Dispatch, Step, Tell
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import Assignment, CancelRun, Heartbeat, HeartbeatAnswer
from shared.contracts.words import BotId, SideEffects, TaskId

TIMEOUT_GRACE: Final = timedelta(seconds=10)
"""A bot ends an attempt at its time-out by itself; so much later it is taken for lost."""


def note_leases(liveness: Liveness, change: TaskChange) -> None:
    """Watch the attempt that began, and no longer the one that is over."""
    before, now = _token(change.before), _token(change.after)
    if before is not None and before != now:
        liveness.drop(before)
    if isinstance(change.after, Held):
        liveness.hold(change.after.token, change.task_id, change.after.bot_id)


def after(scene: Scene, change: Change, moment: Moment) -> list[Step]:
    """What follows from one change, if it is ours."""
    board = scene.board
    if isinstance(change, TaskChange):
        entry = board.tasks.get(change.task_id)
        steps: list[Step] = []
        if isinstance(change.before, Held) and (cancel := _cancelled(change)) is not None:
            steps.append(cancel)
        held = change.after if isinstance(change.after, Held) else None
        if (
            held is not None
            and held.token != _token(change.before)
            and entry is not None
            and _ours(board, entry)
        ):
            steps.append(_dispatch(change.task_id, entry, held))
        if isinstance(change.before, Held):
            steps += circuit_of(scene, change.before.bot_id, moment)
        return steps
    steps = after_bot(scene, change, moment)
    for task_id in list(board.held.get(change.bot_id, ())):
        steps += _held_task(scene, task_id, moment)
    return steps


def freed(change: Change) -> BotId | None:
    """The bot that a change may have given room for more."""
    if isinstance(change, TaskChange):
        return change.before.bot_id if isinstance(change.before, Held) else None
    return change.bot_id if isinstance(change.after, Up) else None


def fill(scene: Scene, bots: set[BotId], moment: Moment) -> list[Step]:
    """Give what waits to these bots."""
    scene.board.lines.shares = moment.config.shares
    choices = scene.placement.fill(
        bots,
        lambda bot_id: scene.liveness.is_ready(bot_id, moment.mono),
        moment.utc,
        moment.config.ageing_s,
        moment.config.explore_share,
    )
    return [_assign(scene.board, choice) for choice in choices]


def passed(scene: Scene, moment: Moment) -> list[Step]:
    """What time alone has made outstanding."""
    board = scene.board
    steps: list[Step] = []
    for lease in list(scene.liveness.leases.values()):
        steps += _held_task(scene, lease.task_id, moment)
    for task_id in board.overdue(moment.utc):
        steps.append(_decide(board.tasks[task_id], ExpireTask(task_id=task_id), 0))
    steps += missing_queues(scene)
    steps += outstanding_bots(scene, moment)
    steps += outstanding_circuits(scene, moment)
    steps += outstanding_of_kin(scene, moment)
    steps += strangers(scene, moment)
    return steps


def todo(scene: Scene, moment: Moment) -> list[Step]:
    """Everything outstanding in the partitions that are ours."""
    scene.board.due_retries(moment.utc)
    steps = passed(scene, moment)
    if scene.board.lines.wanted():
        steps += fill(scene, set(scene.board.bots), moment)
    return steps


def answer(board: Board, heartbeat: Heartbeat) -> HeartbeatAnswer:
    """What a bot is told: which attempts are still its own, and whether it should go.

    A token newer than what we have seen of the log counts as held.
    """
    bot = board.bot(heartbeat.bot_id)
    match bot:
        case NoBot() | Retired() | Stopped() | Broken() | Restarting():
            return HeartbeatAnswer(stop=True)
        case Starting() | Up() | Stopping():
            if not is_its_process(bot.spec, bot.generation, heartbeat):
                return HeartbeatAnswer(stop=True)
            holds = board.held.get(heartbeat.bot_id, {})
            held = tuple(
                each.token
                for each in heartbeat.held
                if holds.get(each.task_id) == each.token or each.token > board.reached
            )
            return HeartbeatAnswer(held=held, drain=isinstance(bot, Stopping))
        case _:
            assert_never(bot)


def is_its_process(spec: BotSpec, generation: int, heartbeat: Heartbeat) -> bool:
    """Whether the heartbeat is of the wanted process; for a bot that others run, any process is."""
    return heartbeat.generation == generation or is_external(spec)


def _held_task(scene: Scene, task_id: TaskId, moment: Moment) -> list[Step]:
    entry = scene.board.tasks.get(task_id)
    if entry is None or not _ours(scene.board, entry):
        return []
    task = entry.state
    lease = scene.liveness.leases.get(task.token) if isinstance(task, Held) else None
    if not isinstance(task, Held) or lease is None:
        return []
    command = _about_attempt(scene, task, lease, moment)
    if command is not None:
        return [_decide(entry, command, task.token)]
    beat = scene.liveness.beat(task.bot_id)
    heard = beat is not None and beat.at >= scene.liveness.since
    if heard and lease.dispatched_at is None and lease.first_named is None:
        return [_dispatch(task_id, entry, task)]
    return []


def _about_attempt(scene: Scene, task: Held, lease: Lease, moment: Moment) -> OwnTaskCommand | None:
    task_id, token = task.order.task_id, task.token
    gone = _gone(scene.board.bot(task.bot_id), token)
    if gone is not None:
        return LoseAttempt(task_id=task_id, token=token, reason=gone)
    if moment.utc > task.assigned_at + timedelta(seconds=task.order.timeout_s) + TIMEOUT_GRACE:
        return LoseAttempt(task_id=task_id, token=token, reason="timed_out")
    if scene.liveness.untaken(lease, moment.config.assignment_taken_within_s) and not task.started:
        return WithdrawAssignment(task_id=task_id, token=token, reason="not_taken")
    if scene.liveness.vanished(lease, moment.mono):
        return LoseAttempt(task_id=task_id, token=token, reason="no_longer_held")
    ask = task.order.retry.side_effects is SideEffects.ASK
    if lease.outlived and not task.started and not ask:
        return NoteTaskStarted(task_id=task_id, token=token)
    return None


def _gone(bot: Bot, token: int) -> str | None:
    """Why the process that got this token cannot have it any more; None if it can."""
    match bot:
        case Up():
            if bot.silent:
                return "bot_silent"
            return "bot_restarted" if token < bot.token else None
        case Stopping():
            return None
        case Starting():
            return "bot_restarted"
        case Restarting() | Broken():
            return "bot_died"
        case Stopped():
            return "bot_stopped"
        case Retired() | NoBot():
            return "bot_retired"
        case _:
            assert_never(bot)


def _dispatch(task_id: TaskId, entry: TaskEntry, task: Held) -> Dispatch:
    order = task.order
    assignment = Assignment(
        task_id=task_id,
        token=task.token,
        attempt=task.attempts + 1,
        type=order.type,
        content=order.content,
        timeout_s=order.timeout_s,
        chain=entry.cause.correlation_id,
        side_effects=order.retry.side_effects,
        input=order.input,
        input_file=order.input_file,
        deadline=order.deadline,
    )
    return Dispatch(task.bot_id, assignment)


def _ours(board: Board, entry: TaskEntry) -> bool:
    return entry.partition in board.owned


def _token(task: Task) -> int | None:
    return task.token if isinstance(task, Held) else None


def _cancelled(change: TaskChange) -> Tell | None:
    """The word to a bot whose attempt is over though it did not say so itself."""
    held, now = change.before, change.after
    assert isinstance(held, Held), held
    if _told_by_bot(held, now):
        return None
    reason = now.how if isinstance(now, Ended) else "withdrawn"
    return Tell(held.bot_id, CancelRun(task_id=change.task_id, token=held.token, reason=reason))


def _told_by_bot(held: Held, now: Task) -> bool:
    match now:
        case Held():
            return now.token == held.token
        case Waiting() | Blocked():
            return now.reported == held.token
        case Ended():
            return now.how in ("completed", "failed") and now.token == held.token
        case Unknown():
            return True
        case _:
            assert_never(now)


def _assign(board: Board, choice: Choice) -> Decide:
    entry = board.tasks[choice.task_id]
    command = AssignTask(task_id=choice.task_id, bot_id=choice.bot_id, decision=choice.decision)
    return _decide(entry, command, entry.line.version)


def _decide(entry: TaskEntry, command: OwnTaskCommand, about: int) -> Decide:
    return Decide(command, entry.cause, about)
