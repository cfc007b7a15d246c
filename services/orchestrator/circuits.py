"""What is outstanding about circuits: to be opened, tried, closed. Named again until it is so."""

from services.orchestrator.commands import MendCircuit, TripCircuit, TryCircuit
from services.orchestrator.decider.bot_state import NoBot, Retired
from services.orchestrator.decider.circuit import Open
from services.orchestrator.outcomes import Mend, Trip
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.steps import Decide, Step
from shared.contracts.words import BotId


def outstanding_circuits(scene: Scene, moment: Moment) -> list[Step]:
    """Of all our bots."""
    return [step for bot_id in list(scene.board.bots) for step in circuit_of(scene, bot_id, moment)]


def circuit_of(scene: Scene, bot_id: BotId, moment: Moment) -> list[Step]:
    """Of one bot, if it is ours. A step is about the circuit's last change: decided once, by whomever."""
    entry = scene.board.bots.get(bot_id)
    if entry is None or entry.partition not in scene.board.owned:
        return []
    state = entry.state
    if isinstance(state, NoBot | Retired):
        return []
    circuit = state.circuit
    if isinstance(circuit, Open):
        if circuit.until > moment.utc:
            return []
        return [Decide(TryCircuit(bot_id=bot_id, since=circuit.since), entry.cause, circuit.since)]
    match scene.board.tally.verdicts.get(bot_id):
        case None:
            return []
        case Trip() as trip:
            opening = TripCircuit(
                bot_id=bot_id,
                since=circuit.since,
                reason=trip.reason,
                failures=trip.failures,
                attempts=trip.attempts,
                for_s=moment.config.circuit_open_s,
            )
            return [Decide(opening, entry.cause, circuit.since)]
        case Mend() as mend:
            closing = MendCircuit(bot_id=bot_id, since=circuit.since, reason=mend.reason)
            return [Decide(closing, entry.cause, circuit.since)]
