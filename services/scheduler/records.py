"""What is kept of a decision to ask later how another one would have ended: who would have had the task.

Only what was known at that moment decides that, so that no policy is judged by what it learned from the
answers. Bots that a policy finds equally good share its choice.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from services.scheduler.ledger import Ledger
from services.scheduler.opinions import success_and_speed
from services.scheduler.sketch import Sketch
from shared.contracts.orchestrator.facts import Decision
from shared.contracts.words import BotId

CHEAPEST: Final = "cheapest"
FASTEST: Final = "fastest"
EFFICIENT: Final = "efficient"
RANDOM: Final = "random"
POLICIES: Final = (CHEAPEST, FASTEST, EFFICIENT, RANDOM)
SPEED_WEIGHT: Final = 0.4  # of `efficient`, whatever is in force


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A decision. `chances`: of the bot that was taken, under each policy; None: no opinion was trusted.

    `propensity`: how probable it was that this bot was taken; None where that was not recorded.
    """

    bot: BotId
    at: datetime
    candidates: int
    propensity: float | None
    chances: dict[str, float | None]


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What the attempt came to. `run_s`: where it completed."""

    failed: bool
    cost_usd: float
    run_s: float | None


class Trial(msgspec.Struct, frozen=True, array_like=True):
    """A decision and its result."""

    record: Record
    result: Result


def record_of(
    bot: BotId,
    decision: Decision,
    at: datetime,
    *,
    ledgers: Mapping[BotId, Ledger],
    runs: Sketch,
    samples_min: int,
) -> Record:
    """What is to be kept of a decision."""
    names = [candidate.bot_id for candidate in decision.candidates]
    known = {
        name: ledger
        for name in names
        if (ledger := ledgers.get(name)) is not None and ledger.samples >= samples_min
    }
    total = max(decision.candidates_total, len(names), 1)
    if total == 1:
        return Record(bot, at, total, decision.propensity, dict.fromkeys(POLICIES, 1.0))
    return Record(
        bot=bot,
        at=at,
        candidates=total,
        propensity=decision.propensity,
        chances={
            CHEAPEST: _chance(bot, names, known, lambda ledger: -ledger.cost_usd),
            FASTEST: _chance(bot, names, known, _speed),
            EFFICIENT: _chance(bot, names, known, lambda ledger: _efficiency(ledger, runs)),
            RANDOM: 1 / total,
        },
    )


def _chance(
    bot: BotId, names: Sequence[BotId], known: Mapping[BotId, Ledger], value: Callable[[Ledger], float | None]
) -> float | None:
    """How probable it is that a policy takes this bot: the best it knows, or one as good as that."""
    values = {name: found for name in names if name in known and (found := value(known[name])) is not None}
    if not values:
        return None
    best = max(values.values())
    equal = [name for name, found in values.items() if found == best]
    return 1 / len(equal) if bot in equal else 0.0


def _speed(ledger: Ledger) -> float | None:
    return -ledger.typical_run_s if ledger.runs else None


def _efficiency(ledger: Ledger, runs: Sketch) -> float:
    success, speed = success_and_speed(ledger, runs)
    return SPEED_WEIGHT * speed + (1 - SPEED_WEIGHT) * success
