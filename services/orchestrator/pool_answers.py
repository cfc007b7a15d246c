"""What the orchestrator answers about pools: from the table, and what would be decided now."""

from collections.abc import Awaitable, Callable

from services.orchestrator.decider.pool import Pool, PoolState, bounds_of
from services.orchestrator.pool_board import Pools
from services.orchestrator.pool_keeping import Kept
from services.orchestrator.pool_tables import (
    SELECT_ONE,
    decisions_of,
    kept_of,
    select_decisions,
    select_pools,
)
from services.orchestrator.scaling import Down, Hold, Up, plan
from services.orchestrator.scene import Moment
from shared.contracts.orchestrator.pools import (
    GetPool,
    ListPoolDecisions,
    ListPools,
    PoolDecision,
    PoolDoc,
    PoolName,
    Readings,
)
from shared.contracts.words import Page
from shared.kernel.errors import NotFound
from shared.runtime.handler import Known
from shared.runtime.views import Table


class PoolAnswers:
    """Documents for whoever asks."""

    def __init__(
        self,
        pools: Pools,
        table: Table,
        *,
        moment: Callable[[], Moment],
        seen: Callable[[int], Awaitable[None]],
    ) -> None:
        self._pools = pools
        self._table = table
        self._moment = moment
        self._seen = seen

    async def get_pool(self, query: GetPool) -> PoolDoc:
        """One pool."""
        await self._seen(query.at_least)
        return self._doc(await self._kept(query.name))

    async def list_pools(self, query: ListPools) -> Page[PoolDoc]:
        """Pools by name."""
        await self._seen(query.at_least)
        found = await self._table.read(*select_pools(query))
        more = found[query.limit - 1][0] if len(found) > query.limit else None
        return Page(items=[self._doc(kept_of(row)) for row in found[: query.limit]], next_cursor=more)

    async def list_decisions(self, query: ListPoolDecisions) -> Page[PoolDecision]:
        """A pool's decisions, newest first."""
        await self._seen(query.at_least)
        found = await self._table.read(*select_decisions(query))
        if not found:
            await self._kept(query.name)
        return decisions_of(found, query.limit)

    async def _kept(self, name: PoolName) -> Kept:
        found = await self._table.read(SELECT_ONE, (name,))
        if not found:
            raise NotFound("pool_not_found", f"there is no pool {name}")
        return kept_of(found[0])

    def _doc(self, kept: Kept) -> PoolDoc:
        pool = kept.state
        return PoolDoc(
            name=pool.name,
            version=kept.version,
            enabled=pool.enabled,
            min=pool.min,
            max=pool.max,
            size=self._pools.look(pool, self._moment()).readings.size,
            template=pool.template,
            bots=self._pools.bots_of(pool),
            leaving=self._pools.going_of(pool),
            scaled_at=pool.scaled_at,
            changed_at=pool.changed_at,
            now=self._now(pool),
        )

    def _now(self, pool: Pool) -> PoolDecision:
        """What would be decided, and why."""
        moment = self._moment()
        asked = self._pools.look(pool, moment)
        found = plan(bounds_of(pool, moment.utc), asked.readings, asked.idle, asked.rules)
        decision, after = _shown(found, asked.readings)
        return PoolDecision(
            decision=decision,  # type: ignore[arg-type]
            before=asked.readings.size,
            after=after,
            code=found.code,
            reason=found.reason,
            at=moment.utc,
            readings=asked.readings,
            bots=found.bots if isinstance(found, Down) else (),
        )


def _shown(found: Up | Down | Hold, readings: Readings) -> tuple[str, int]:
    match found:
        case Up():
            return "up", found.to
        case Down():
            return "down", readings.size - len(found.bots)
        case Hold():
            return "hold", readings.size


def recall(pools: Pools, name: str) -> Known[PoolState] | None:
    """A pool as memory has it: its handler need not read its whole life."""
    kept = pools.kept.get(PoolName(name))
    if kept is None:
        return None
    return Known(state=kept.state, version=kept.version, at=kept.at, causes=kept.causes)
