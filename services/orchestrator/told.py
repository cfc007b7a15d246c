"""What the board is told at its start of all that it does not hold."""

from typing import NamedTuple

from services.orchestrator.decider.task_state import How
from services.orchestrator.outcomes import Outcomes
from shared.contracts.words import BotId, TaskId


class CountedTasks(NamedTuple):
    """So many tasks have ended in this state."""

    state: str
    number: int


class ClearedBots(NamedTuple):
    """So many bots are gone."""

    number: int


class KnownChild(NamedTuple):
    """A living task has spawned this one, which has ended so."""

    parent: TaskId
    child: TaskId
    how: How


class KnownOutcomes(NamedTuple):
    """How the last attempts of a bot ended."""

    bot_id: BotId
    outcomes: Outcomes


Told = CountedTasks | ClearedBots | KnownChild | KnownOutcomes
