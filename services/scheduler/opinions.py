"""What the policies make of what was counted: standings, and the table that others choose by."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from services.scheduler.ledger import Ledger
from services.scheduler.sketch import Sketch
from shared.contracts.config import Config
from shared.contracts.scheduler.queries import Performance
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import BotId, TaskType

DIGITS: Final = 4  # of what is told: smaller differences mean nothing
PRIOR: Final = 0.5


class Policy(NamedTuple):
    """What counts how much in the score: shares of 1; the rest is success."""

    name: str
    speed: float
    cheapness: float
    samples_min: int
    alpha: float


def policy_of(config: Config) -> Policy:
    """The policy in force. `cheap` is `efficient` with cheapness on top."""
    match config.scheduler_policy:
        case "efficient":
            speed, cheapness = config.speed_weight, 0.0
        case "fast":
            speed, cheapness = config.fast_speed_weight, 0.0
        case "cheap":
            cheapness = config.cheap_cost_weight
            speed = config.speed_weight * (1 - cheapness)
    return Policy(config.scheduler_policy, speed, cheapness, config.samples_min, config.ewma_alpha)


def success_and_speed(ledger: Ledger, runs: Sketch) -> tuple[float, float]:
    """How often it succeeds, and the share of the type's recent runs that take longer than its own do."""
    return ledger.success, runs.share_above(ledger.typical_run_s) if ledger.runs else 0.0


def standing_of(ledger: Ledger, runs: Sketch, costs: Sketch, policy: Policy) -> Standing:
    """What is known of a bot, and its score; that of nobody in particular, while too little is known."""
    success, speed = success_and_speed(ledger, runs)
    cheapness = costs.share_above(ledger.cost_usd)
    trusted = ledger.samples >= policy.samples_min
    score = policy.speed * speed + policy.cheapness * cheapness
    score += (1 - policy.speed - policy.cheapness) * success
    return Standing(
        samples=ledger.samples,
        successes=round(ledger.successes, DIGITS),
        failures=round(ledger.failures, DIGITS),
        success=_share(success),
        speed=_share(speed),
        cost_usd=round(ledger.cost_usd, 6),
        score=_share(score) if trusted else PRIOR,
        confidence=_share(ledger.confidence),
        trend=ledger.trend(policy.alpha),
        trusted=trusted,
    )


def table_of(
    kind: TaskType, standings: Mapping[BotId, Standing], policy: str, sequence: int, at: datetime
) -> RoutingTable:
    """What is published of a type."""
    return RoutingTable(type=kind, at=at, sequence=sequence, policy=policy, bots=dict(standings))


def performance_of(bot: BotId, kind: TaskType, ledger: Ledger, standing: Standing) -> Performance:
    """The same for people."""
    return Performance(
        bot=bot,
        type=kind,
        samples=ledger.samples,
        trusted=standing.trusted,
        success=standing.success,
        speed=standing.speed,
        score=standing.score,
        confidence=standing.confidence,
        trend=standing.trend,
        run_s=round(ledger.run_s, 6) if ledger.runs else None,
        tokens=round(ledger.tokens, 1),
        cost_usd=standing.cost_usd,
        last_at=ledger.last_at,
        sequence=ledger.sequence,
    )


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), DIGITS)
