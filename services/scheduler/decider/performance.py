"""What is known of a bot is counted, not decided; only that it shall be forgotten is a decision."""

from datetime import datetime
from typing import Final

import msgspec

from services.scheduler.facts import PerformanceEvent
from shared.contracts.scheduler.commands import PerformanceRequest
from shared.contracts.scheduler.facts import PerformanceReset
from shared.contracts.words import is_name
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected


class Known(msgspec.Struct, frozen=True):
    """`resets`: how often it was forgotten."""

    resets: int = 0


def evolve(known: Known, _fact: PerformanceEvent, _sequence: int, _at: datetime) -> Known:
    """The state after one of its facts."""
    return Known(known.resets + 1)


def decide(_known: Known, command: PerformanceRequest, _at: datetime) -> list[PerformanceEvent]:
    """Each reset is a new place in the log: what was counted before it counts no more."""
    if not is_name(command.bot_id):
        raise Rejected("bad_bot", "`bot_id` must be a bot's name")
    return [PerformanceReset(bot_id=command.bot_id, type=command.type)]


PERFORMANCE: Final = Decider[Known, PerformanceRequest, PerformanceEvent](
    initial=Known(), evolve=evolve, decide=decide
)
