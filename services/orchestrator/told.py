"""What the board is told at its start of all that it does not hold."""

from typing import NamedTuple

from services.orchestrator.outcomes import Outcomes
from shared.contracts.words import BotId


class CountedTasks(NamedTuple):
    """So many tasks have ended in this state."""

    state: str
    number: int


class ClearedBots(NamedTuple):
    """So many bots are gone."""

    number: int


class KnownOutcomes(NamedTuple):
    """How the last attempts of a bot ended."""

    bot_id: BotId
    outcomes: Outcomes


Told = CountedTasks | ClearedBots | KnownOutcomes
