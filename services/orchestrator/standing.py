"""The order in which bots are chosen for a kind of task, and by which chances others are tried.

Made anew when an opinion or the fleet changes, so that a choice needs no look at every bot.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from services.orchestrator.chances import Posterior, chances_of_being_best
from services.orchestrator.opinions import Opinions
from shared.contracts.health import Level
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import BotId, TaskType

PRIOR_SCORE: Final = 0.5  # of a bot of which too little is known
PRIOR_SUCCESS: Final = 0.5
SUCCESS_WEIGHT: Final = 0.6  # of what is uncertain in a bot's worth; the rest is speed, or cost
DEGRADED: Final = 0.5
EXPLORED_MAX: Final = 16
"""So many are tried beside the best: those who may well be worth the most."""

EVEN: Final = 0.2
"""This part of exploration goes to all alike: one that became better is found, and no chance is nil."""

NOBODY_SAYS: Final = "most_free"
"""The policy while there is no table: all are equal, so the most free slots decide."""


class Group(NamedTuple):
    """Bots of the same score."""

    score: float
    bots: tuple[BotId, ...]


class Ranking(NamedTuple):
    """The best first. `chances` are of those who are tried; `newcomers` are to be known first."""

    policy: str
    sequence: int
    groups: tuple[Group, ...]
    chances: tuple[tuple[BotId, float], ...]
    newcomers: tuple[BotId, ...]
    samples: dict[BotId, int]
    scores: dict[BotId, float]
    chance_of: dict[BotId, float]


def ranking(bots: Iterable[BotId], kind: TaskType, opinions: Opinions) -> Ranking:
    """The order of these bots."""
    table = opinions.tables.get(kind)
    known = {} if table is None else table.bots
    by_score: dict[float, list[BotId]] = {}
    for bot_id in sorted(bots):
        by_score.setdefault(_score(known.get(bot_id), opinions.level(bot_id)), []).append(bot_id)
    groups = tuple(Group(score, tuple(by_score[score])) for score in sorted(by_score, reverse=True))
    scores = {bot_id: group.score for group in groups for bot_id in group.bots}
    if table is None:
        return Ranking(NOBODY_SAYS, 0, groups, (), (), {}, scores, {})
    ranked = list(scores)
    chances = _chances(ranked, table, opinions)
    return Ranking(
        policy=table.policy,
        sequence=table.sequence,
        groups=groups,
        chances=chances,
        newcomers=tuple(sorted(bot_id for bot_id in ranked if _is_new(known.get(bot_id)))),
        samples={bot_id: known[bot_id].samples for bot_id in ranked if bot_id in known},
        scores=scores,
        chance_of={bot_id: round(chance, 6) for bot_id, chance in chances},
    )


def _chances(bots: list[BotId], table: RoutingTable, opinions: Opinions) -> tuple[tuple[BotId, float], ...]:
    known = {bot_id: _posterior(table.bots.get(bot_id), opinions.level(bot_id)) for bot_id in bots}
    hopeful = sorted(known, key=lambda bot_id: (-known[bot_id].hope, bot_id))[:EXPLORED_MAX]
    chances = chances_of_being_best([known[bot_id] for bot_id in hopeful])
    even = 1 / len(hopeful) if hopeful else 0.0
    mixed = [
        (bot_id, (1 - EVEN) * chance + EVEN * even) for bot_id, chance in zip(hopeful, chances, strict=True)
    ]
    return tuple(sorted(mixed, key=lambda each: (-each[1], each[0])))


def _posterior(known: Standing | None, level: Level) -> Posterior:
    factor = _factor(level)
    if known is None:
        rest = PRIOR_SCORE - SUCCESS_WEIGHT * PRIOR_SUCCESS
        return Posterior(0.0, 0.0, SUCCESS_WEIGHT, rest, factor)
    if not known.trusted:
        rest = PRIOR_SCORE - SUCCESS_WEIGHT * PRIOR_SUCCESS
        return Posterior(known.successes, known.failures, SUCCESS_WEIGHT, rest, factor)
    rest = max(0.0, known.score - SUCCESS_WEIGHT * known.success)
    return Posterior(known.successes, known.failures, SUCCESS_WEIGHT, rest, factor)


def _score(known: Standing | None, level: Level) -> float:
    score = known.score if known is not None and known.trusted else PRIOR_SCORE
    return round(_factor(level) * score, 6)


def _is_new(known: Standing | None) -> bool:
    return known is None or not known.trusted


def _factor(level: Level) -> float:
    return 1.0 if level is Level.HEALTHY else DEGRADED
