"""What the scheduler can be asked about, and the documents it answers with (the API's own JSON)."""

from datetime import datetime
from typing import ClassVar

import msgspec

from shared.contracts.scheduler.routing import Standing
from shared.contracts.words import BotId, Page, TaskType
from shared.kernel.messages import Query


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one bot at one type of task. Averages are moving ones; `tokens` are in and out.

    `run_s`: how long its completed tasks ran; None before the first one.
    """

    bot: BotId
    type: TaskType
    samples: int
    trusted: bool
    success: float
    speed: float
    score: float
    confidence: float
    trend: str  # improving, declining, steady
    run_s: float | None
    tokens: float
    cost_usd: float
    last_at: datetime
    sequence: int  # of the newest fact that it counts


class Recommended(msgspec.Struct, frozen=True, kw_only=True):
    """A bot in its place among those that could do it, and what speaks for it and against it."""

    bot: BotId
    rank: int
    standing: Standing
    reasons: tuple[str, ...]


class NotRecommended(msgspec.Struct, frozen=True, kw_only=True):
    """A bot that cannot be given such a task now, and why."""

    bot: BotId
    reason: str


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """Who should do tasks of a type, the best first. `policy` is the one in force."""

    type: TaskType
    policy: str
    sequence: int
    ranked: tuple[Recommended, ...]
    others: tuple[NotRecommended, ...]


class BotPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a bot, type by type."""

    bot: BotId
    types: tuple[Performance, ...]


class TypePerformance(msgspec.Struct, frozen=True, kw_only=True):
    """How tasks of a type went: how long the last completed ones ran (`recent` of them), bot by bot."""

    type: TaskType
    recent: int
    run_s: dict[str, float]  # p10, p50, p90, p95
    bots: tuple[Performance, ...]


class GetRecommendations(Query[Recommendations], frozen=True, kw_only=True):
    """Who should do tasks of a type."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = Recommendations

    type: TaskType
    at_least: int = 0


class GetBotPerformance(Query[BotPerformance], frozen=True, kw_only=True):
    """What is known of a bot. NotFound: `bot_not_found`."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = BotPerformance

    bot_id: BotId
    at_least: int = 0


class GetTypePerformance(Query[TypePerformance], frozen=True, kw_only=True):
    """How tasks of a type went."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = TypePerformance

    type: TaskType
    at_least: int = 0


class ListPerformance(Query[Page[Performance]], frozen=True, kw_only=True):
    """All that is known, by bot and type."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = Page[Performance]

    cursor: str | None = None
    limit: int = 200
    at_least: int = 0


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate, and where the true value lies with 95 % confidence."""

    estimate: float
    low: float
    high: float


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """How attempts end. `run_s_p95`: of those that complete; None where too few do."""

    run_s_p95: Interval | None
    cost_usd: Interval
    failure_share: Interval


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """History under another policy. `actual`: what happened, over the very same decisions.

    `decisions` were recorded; of these some cannot be used: `without_chance` (no propensity: an older form,
    or the bot was certain where there were others), `without_opinion` (nothing trusted was known of any
    candidate then). `effective`: how many decisions the estimate is worth. None for `estimate`:
    not enough data, and `detail` says what is missing.
    """

    policy: str
    type: TaskType | None
    since: datetime
    decisions: int
    used: int
    without_chance: int
    without_opinion: int
    effective: float
    actual: Outcomes | None
    estimate: Outcomes | None
    detail: str


class GetWhatIf(Query[WhatIf], frozen=True, kw_only=True):
    """How tasks since then would have gone under another policy: cheapest, fastest, efficient, random."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = WhatIf

    policy: str
    since: datetime
    type: TaskType | None = None
