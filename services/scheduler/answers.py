"""What the scheduler answers about bots: from memory, and from rows when asked what could have been."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from services.scheduler.estimate import estimate
from services.scheduler.opinions import Policy, performance_of, policy_of, standing_of, table_of
from services.scheduler.projection import Books
from services.scheduler.reasons import rank
from services.scheduler.records import POLICIES
from services.scheduler.tables import select_trials, trials_of
from shared.contracts.config import Config
from shared.contracts.scheduler.queries import (
    BotPerformance,
    GetBotPerformance,
    GetRecommendations,
    GetTypePerformance,
    GetWhatIf,
    ListPerformance,
    Performance,
    Recommendations,
    TypePerformance,
    WhatIf,
)
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import BotId, Page, TaskType
from shared.kernel.errors import NotFound, Rejected
from shared.runtime.ids import seeded
from shared.runtime.views import Table

LIMIT_MAX: Final = 1_000
SHARES: Final = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p95": 0.95}


class Answers:
    """Documents for whoever asks."""

    def __init__(
        self,
        books: Books,
        table: Table,
        *,
        config: Callable[[], Config],
        now: Callable[[], datetime],
        seen: Callable[[int], Awaitable[None]],
    ) -> None:
        self._books = books
        self._table = table
        self._config = config
        self._now = now
        self._seen = seen
        self._thinking = asyncio.Lock()

    def table(self, kind: TaskType) -> RoutingTable:
        """What is to be published of a type: of the bots that are not retired."""
        policy, book = policy_of(self._config()), self._books.look(kind)
        standings = {
            bot: standing
            for bot, standing in self._standings(kind, policy).items()
            if bot in self._books.fleet
        }
        return table_of(kind, standings, policy.name, book.sequence, self._now())

    async def get_recommendations(self, query: GetRecommendations) -> Recommendations:
        """Who should do tasks of a type, and why."""
        await self._seen(query.at_least)
        policy, book = policy_of(self._config()), self._books.look(query.type)
        ranked, others = rank(
            query.type, self._standings(query.type, policy), self._books.fleet, book, policy
        )
        return Recommendations(
            type=query.type, policy=policy.name, sequence=book.sequence, ranked=ranked, others=others
        )

    async def get_bot_performance(self, query: GetBotPerformance) -> BotPerformance:
        """What is known of a bot."""
        await self._seen(query.at_least)
        policy = policy_of(self._config())
        found = tuple(
            self._performance(kind, query.bot_id, policy)
            for kind, book in sorted(self._books.books.items())
            if query.bot_id in book.ledgers
        )
        if not found and query.bot_id not in self._books.fleet:
            raise NotFound("bot_not_found", f"nothing is known of a bot {query.bot_id}")
        return BotPerformance(bot=query.bot_id, types=found)

    async def get_type_performance(self, query: GetTypePerformance) -> TypePerformance:
        """How tasks of a type went."""
        await self._seen(query.at_least)
        policy, book = policy_of(self._config()), self._books.look(query.type)
        return TypePerformance(
            type=query.type,
            recent=len(book.runs),
            run_s={name: round(book.runs.quantile(share), 6) for name, share in SHARES.items() if book.runs},
            bots=tuple(
                self._performance(query.type, bot, policy) for bot in sorted(book.ledgers)[:LIMIT_MAX]
            ),
        )

    async def list_performance(self, query: ListPerformance) -> Page[Performance]:
        """All that is known, by type and bot."""
        await self._seen(query.at_least)
        if not 1 <= query.limit <= LIMIT_MAX:
            raise Rejected("bad_limit", f"`limit` must be 1 to {LIMIT_MAX}")
        policy = policy_of(self._config())
        names = sorted(
            (kind, bot)
            for kind, book in self._books.books.items()
            for bot in book.ledgers
            if query.cursor is None or _place(kind, bot) > query.cursor
        )
        some = names[: query.limit]
        return Page(
            items=[self._performance(kind, bot, policy) for kind, bot in some],
            next_cursor=_place(*some[-1]) if len(names) > len(some) else None,
        )

    async def get_what_if(self, query: GetWhatIf) -> WhatIf:
        """History under another policy. One question at a time: each takes a second or two of a core."""
        if query.policy not in POLICIES:
            raise Rejected("bad_policy", f"`policy` must be one of {', '.join(POLICIES)}")
        if query.since.tzinfo is None:
            raise Rejected("bad_since", "`since` must name its time zone")
        async with self._thinking:
            trials = trials_of(await self._table.read(*select_trials(query.since, query.type)))
            answer = await asyncio.to_thread(estimate, query.policy, trials, seeded(len(trials)))
        return WhatIf(
            policy=query.policy,
            type=query.type,
            since=query.since,
            decisions=len(trials),
            used=answer.used,
            without_chance=answer.without_chance,
            without_opinion=answer.without_opinion,
            effective=round(answer.effective, 1),
            actual=answer.actual,
            estimate=answer.estimate,
            detail=answer.detail,
        )

    def _standings(self, kind: TaskType, policy: Policy) -> dict[BotId, Standing]:
        book = self._books.look(kind)
        return {
            bot: standing_of(ledger, book.runs, book.costs, policy) for bot, ledger in book.ledgers.items()
        }

    def _performance(self, kind: TaskType, bot: BotId, policy: Policy) -> Performance:
        book = self._books.look(kind)
        ledger = book.ledgers[bot]
        return performance_of(bot, kind, ledger, standing_of(ledger, book.runs, book.costs, policy))


def _place(kind: TaskType, bot: BotId) -> str:
    """Where a row stands in the whole list."""
    return f"{kind}.{bot}"
