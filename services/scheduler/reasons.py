"""Recommendations with their reasons, in words for people."""

from collections.abc import Mapping
from typing import Final

from services.scheduler.fleet import Member
from services.scheduler.opinions import PRIOR, Policy
from services.scheduler.projection import Book
from shared.contracts.scheduler.queries import NotRecommended, Recommended
from shared.contracts.scheduler.routing import Standing
from shared.contracts.words import BotId, TaskType

UNKNOWN: Final = Standing(
    samples=0,
    successes=0.0,
    failures=0.0,
    success=PRIOR,
    speed=PRIOR,
    cost_usd=0.0,
    score=PRIOR,
    confidence=0.0,
)
"""Of a bot that has not ended a task of the type yet."""

SAID_MAX: Final = 1_000
"""Bots in one answer, of each kind."""


def rank(
    kind: TaskType,
    standings: Mapping[BotId, Standing],
    fleet: Mapping[BotId, Member],
    book: Book,
    policy: Policy,
) -> tuple[tuple[Recommended, ...], tuple[NotRecommended, ...]]:
    """Those that could be given a task now, the best first; and the others, by name."""
    why_not = {name: member.why_not(kind) for name, member in fleet.items()}
    able = {name: standings.get(name, UNKNOWN) for name, reason in why_not.items() if reason is None}
    order = sorted(able.items(), key=lambda each: (-each[1].score, -each[1].confidence, each[0]))
    best = order[0] if order else None
    ranked = tuple(
        Recommended(
            bot=bot,
            rank=place,
            standing=standing,
            reasons=(*_reasons(standing, book, bot, policy), *_behind(bot, standing, best)),
        )
        for place, (bot, standing) in enumerate(order[:SAID_MAX], start=1)
    )
    others = [NotRecommended(bot=name, reason=reason) for name, reason in sorted(why_not.items()) if reason]
    gone = sorted(standings.keys() - fleet.keys())
    others += [NotRecommended(bot=name, reason="is retired") for name in gone]
    return ranked, tuple(others[:SAID_MAX])


def _reasons(standing: Standing, book: Book, bot: BotId, policy: Policy) -> list[str]:
    if not standing.samples:
        return ["has not ended a task of this type yet: it counts as average"]
    ledger = book.ledgers[bot]
    said = [f"succeeds in {standing.success:.0%} of its tasks, recent ones counting more"]
    if ledger.runs:
        said.append(
            f"takes {ledger.run_s:.3g} s: faster than {standing.speed:.0%} of this type's recent runs"
        )
    if standing.cost_usd or policy.cheapness:
        said.append(f"costs ${standing.cost_usd:.4f} a task")
    if standing.trend != "steady":
        said.append(f"is {standing.trend}")
    if not standing.trusted:
        said.append(
            f"only {standing.samples} of {policy.samples_min} tasks that are needed: counts as average"
        )
    return said


def _behind(bot: BotId, standing: Standing, best: tuple[BotId, Standing] | None) -> list[str]:
    """What the best has that this one has not."""
    if best is None or best[0] == bot:
        return []
    name, first = best
    points = {
        "success": first.success - standing.success,
        "speed": first.speed - standing.speed,
        "confidence": first.confidence - standing.confidence,
    }
    what, by = max(points.items(), key=lambda each: each[1])
    difference = first.score - standing.score
    if difference <= 0:
        return (
            [f"scores as {name}, of whom more is known"]
            if points["confidence"] > 0
            else [f"ties with {name}"]
        )
    return [f"scores {difference:.2f} less than {name}" + (f", mostly for its {what}" if by > 0 else "")]
