"""What a task waits for, in a sentence; why each bot cannot have it now; and what to type."""

from collections.abc import Iterable, Iterator
from typing import Final

from services.orchestrator.board import TaskEntry
from services.orchestrator.decider.bot_state import Bot, Broken, NoBot, Restarting, Retired, Up
from services.orchestrator.decider.circuit import HalfOpen, Open
from services.orchestrator.decider.task_state import Blocked, Held, Unknown, Waiting, state_name
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.waiting import Wants, wants_of
from shared.contracts.orchestrator.queries import BotVerdict, TaskDoc, Why
from shared.contracts.words import DEPENDENCY_KNOWN_WITHIN, AfterPolicy, BotId, TaskId

VERDICTS_MAX: Final = 50
OTHERS_SHOWN_MAX: Final = 5

_SENTENCES: Final = {
    "another_bot_is_required": "the task requires another bot",
    "other_engine": "it has another engine: {engine}",
    "other_pool": "it is in another pool: {pool}",
    "other_types": "it does only {types}",
    "silent": "it has not been heard for a while",
    "starting": "it is starting",
    "draining": "it is stopping and takes nothing new",
    "stopped": "it is stopped",
    "restarting": "it died and will be started again",
    "broken": "it is broken",
    "retired": "it is retired",
    "critical": "its health is critical",
}


def why_open(scene: Scene, doc: TaskDoc, entry: TaskEntry, moment: Moment) -> Why | None:
    """Why an open task is not done yet; None when it has just ended."""
    state = entry.state
    if isinstance(state, Held):
        return _held(scene, doc, state)
    if isinstance(state, Blocked):
        return Why(
            id=doc.id,
            state=doc.state,
            explanation=f"a person must look: {doc.reason}",
            waits_for="review",
            advice=f"hive task timeline {doc.id}; then hive task resume {doc.id}, or cancel it",
        )
    if not isinstance(state, Waiting):
        return None
    if state.retry_at is not None and state.retry_at > moment.utc:
        seconds = (state.retry_at - moment.utc).total_seconds()
        detail = f" ({doc.error.detail})" if doc.error is not None else ""
        return Why(
            id=doc.id,
            state=doc.state,
            explanation=f"attempt {state.attempts} of {state.allowed} went wrong{detail}; "
            f"the next may start in {seconds:.1f} s",
            waits_for="retry",
        )
    if state.dependent:
        return _dependent(scene, doc)
    return _waiting(scene, doc, state, moment)


def why_ended(doc: TaskDoc) -> Why:
    """An ended task waits for nothing."""
    detail = doc.error.detail if doc.error is not None else doc.reason
    explanation = f"it is {doc.state}" + (f": {detail}" if detail else "")
    return Why(id=doc.id, state=doc.state, explanation=explanation, waits_for="nothing")


def _held(scene: Scene, doc: TaskDoc, state: Held) -> Why:
    if not state.started:
        explanation = f"{state.bot_id} has just been given it"
    else:
        beat = scene.liveness.beat(state.bot_id)
        held = () if beat is None else beat.heartbeat.held
        progress = next((each.progress for each in held if each.token == state.token), None)
        done = "" if progress is None else f", {progress:.0%} done"
        explanation = f"{state.bot_id} works on it: attempt {state.attempts + 1} of {state.allowed}{done}"
    return Why(
        id=doc.id,
        state=doc.state,
        explanation=explanation,
        waits_for="the_bot",
        advice=f"hive task watch {doc.id}",
    )


def _dependent(scene: Scene, doc: TaskDoc) -> Why:
    """For whom it waits, and how they are."""
    unmet = scene.board.kin.unmet(doc.id)
    more = f", and {len(unmet) - OTHERS_SHOWN_MAX} more" if len(unmet) > OTHERS_SHOWN_MAX else ""
    told = ", ".join(_other(scene, doc, other) for other in unmet[:OTHERS_SHOWN_MAX])
    asked = "have completed" if doc.after_policy is AfterPolicy.COMPLETED else "have ended"
    return Why(
        id=doc.id,
        state=doc.state,
        explanation=f"it comes after {told}{more}" if unmet else f"all that it comes after {asked}",
        waits_for="other_tasks",
        advice=f"hive task why {unmet[0]}" if unmet else None,
    )


def _other(scene: Scene, doc: TaskDoc, other: TaskId) -> str:
    entry = scene.board.tasks.get(other)
    if entry is not None and not isinstance(entry.state, Unknown):
        return f"{other} ({state_name(entry.state)})"
    if other in scene.board.kin.missing:
        until = doc.submitted_at + DEPENDENCY_KNOWN_WITHIN
        return f"{other} (which nobody has submitted: it fails at {until:%H:%M:%S} UTC if nobody does)"
    return f"{other} (which is being looked up)"


def _waiting(scene: Scene, doc: TaskDoc, state: Waiting, moment: Moment) -> Why:
    wants = wants_of(state.order)
    capable = scene.placement.capable(wants).bots
    position = _position(scene, state, moment)
    verdicts = list(_verdicts(scene, wants, moment))[:VERDICTS_MAX]
    if not capable:
        return Why(
            id=doc.id,
            state=doc.state,
            explanation=f"no bot can do this now: it needs a bot {_needs(wants)}",
            waits_for="a_bot",
            queue_position=position,
            bots=verdicts,
            advice=_advice(scene, wants),
        )
    ready = [bot_id for bot_id in capable if scene.liveness.is_ready(bot_id, moment.mono)]
    names = ", ".join(sorted(ready)[:5])
    if not ready:
        explanation = "the bots that could do it have not been heard in the last seconds"
    elif any(scene.board.free(bot_id) > 0 for bot_id in ready):
        explanation = f"it is about to be given to one of {names}"
    else:
        explanation = f"all slots of {names} are taken; it is number {position} in the queue"
        explanation += _held_by_ancestors(scene, state, ready)
    return Why(
        id=doc.id,
        state=doc.state,
        explanation=explanation,
        waits_for="a_slot" if ready else "a_bot",
        queue_position=position,
        bots=verdicts,
        advice=f"to have it sooner: {_launch(wants)}",
    )


def _held_by_ancestors(scene: Scene, state: Waiting, bots: Iterable[BotId]) -> str:
    """Whether slots are held by tasks that may wait for their children, as this one may be."""
    board = scene.board
    held = {task_id for bot_id in bots for task_id in board.held.get(bot_id, ())}
    parents = [task_id for task_id in held if board.families.of(task_id)]
    if not parents:
        return ""
    whose = "among them one from which it descends" if held & set(state.order.ancestors) else "not its own"
    return (
        f"; {len(parents)} of the {len(held)} tasks there have spawned others, {whose}, and may be waiting "
        "for them: if all are, no slot comes free before one gives up"
    )


def _position(scene: Scene, state: Waiting, moment: Moment) -> int:
    """Its number among the waiting tasks that some bot of its own could do, too; 1 if it waits no more."""
    bots = scene.placement.capable(wants_of(state.order)).bots

    def competes(other: Wants) -> bool:
        return not scene.placement.capable(other).bots.isdisjoint(bots)

    now, ageing_s = moment.utc.timestamp(), moment.config.ageing_s
    return scene.board.lines.position(state.order.task_id, now, ageing_s, competes) or 1


def _verdicts(scene: Scene, wants: Wants, moment: Moment) -> Iterator[BotVerdict]:
    for bot_id in sorted(scene.board.bots):
        bot = scene.board.bot(bot_id)
        if isinstance(bot, NoBot | Retired) and wants.bot != bot_id:
            continue
        reason = scene.placement.refusal(bot_id, bot, wants)
        if reason is not None:
            yield BotVerdict(bot=bot_id, reason=_sentence(reason, bot))
        elif scene.board.free(bot_id) <= 0:
            yield BotVerdict(bot=bot_id, reason=_no_room(scene, bot_id, bot))
        elif not scene.liveness.is_ready(bot_id, moment.mono):
            yield BotVerdict(bot=bot_id, reason="it has not been heard in the last seconds")


def _no_room(scene: Scene, bot_id: BotId, bot: Bot) -> str:
    """Why it is given nothing more though it could do it."""
    if isinstance(bot, Up) and isinstance(bot.circuit, HalfOpen):
        return f"its circuit is half open, so it does one task at a time ({bot.circuit.reason})"
    if bot_id in scene.board.tally.verdicts:
        return "its circuit is about to open"
    return f"all its slots are taken: it has {len(scene.board.held[bot_id])} tasks"


def _sentence(reason: str, bot: Bot) -> str:
    match bot:
        case NoBot():
            return _SENTENCES[reason]
        case Up(circuit=Open() as circuit) if reason == "circuit_open":
            return f"its circuit is open until {circuit.until:%H:%M:%S} UTC: {circuit.reason}"
        case Broken() if reason == "broken":
            return f"it is broken: {bot.reason}"
        case Restarting() if reason == "restarting":
            return f"it died ({bot.crashes} in a row) and is started again at {bot.restart_at:%H:%M:%S} UTC"
        case _:
            spec = bot.spec
            return _SENTENCES[reason].format(
                engine=spec.engine, pool=spec.pool, types=", ".join(kind.value for kind in spec.types)
            )


def _needs(wants: Wants) -> str:
    needs = [f"for {wants.type.value}"]
    if wants.bot is not None:
        needs.append(f"named {wants.bot}")
    if wants.engine is not None:
        needs.append(f"with engine {wants.engine}")
    if wants.pool is not None:
        needs.append(f"in pool {wants.pool}")
    return " ".join(needs)


def _advice(scene: Scene, wants: Wants) -> str:
    if wants.bot is not None and (advice := _advice_for_bot(wants.bot, scene.board.bot(wants.bot))):
        return advice
    return f"launch one: {_launch(wants)}"


def _advice_for_bot(bot_id: BotId, bot: Bot) -> str | None:
    match bot:
        case NoBot() | Retired():
            return None
        case Up(circuit=Open()):
            return f"it is tried again then; if it is repaired: hive bots circuit {bot_id} close"
        case Up():
            return f"hive bots: {bot_id} is there, but is not what the task requires"
        case _:
            return f"start it: hive bots start {bot_id}"


def _launch(wants: Wants) -> str:
    parts = ["hive bots launch", wants.bot or "NAME", f"--engine {wants.engine or 'ENGINE'}"]
    parts.append(f"--types {wants.type.value}")
    if wants.pool is not None:
        parts.append(f"--pool {wants.pool}")
    return " ".join(parts)


def is_open(doc: TaskDoc) -> bool:
    """Whether the task has not ended."""
    match doc.state:
        case "completed" | "failed" | "cancelled" | "expired":
            return False
        case _:
            return True
