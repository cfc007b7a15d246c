"""Where the parts of pools meet."""

from collections.abc import Callable

from services.orchestrator.decider.pool import POOL, PoolState
from services.orchestrator.facts import POOL_CODEC
from services.orchestrator.pool_answers import PoolAnswers, recall
from services.orchestrator.pool_board import Pools
from services.orchestrator.pool_tables import SCHEMA, SELECT_ALIVE, SELECT_BEGIN, VERSION, rows
from services.orchestrator.pooling import DecidesBots, Pooling, PoolPerformer
from services.orchestrator.scene import Moment, Scene
from shared.contracts.orchestrator.pools import GetPool, ListPoolDecisions, ListPools, PoolRequest
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.handler import Known
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.views import Statement


def pools(
    runtime: Runtime, scene: Scene, kept: Pools, bots: DecidesBots, moment: Callable[[], Moment]
) -> Assembly:
    """The pools' share of the service."""
    pooling = Pooling(kept, scene.board, moment=moment, owned=runtime.owned)

    def known(name: str) -> Known[PoolState] | None:
        return recall(kept, name)

    handler = runtime.handler(
        POOL,
        "pool",
        POOL_CODEC,
        prepare=pooling.prepare,
        released=pooling.released,
        on_commit=pooling.committed,
        recall=known,
    )
    table = runtime.table(
        "pools",
        version=VERSION,
        schema=SCHEMA,
        codecs={"pool": POOL_CODEC},
        rows=lambda batch, read: [Statement(sql, values) for sql, values in rows(batch, read)],
    )
    answers = PoolAnswers(kept, table, moment=moment, seen=runtime.seen)
    performer = PoolPerformer(kept, handler, bots)
    live = Live(table=table, alive=SELECT_ALIVE, totals=SELECT_BEGIN, begun=kept.begin)
    view = runtime.follow("pools", {"pool": POOL_CODEC}, pooling.followed, live=live)
    return Assembly(
        commands=[Route(PoolRequest, handler)],
        queries=[
            runtime.answer(GetPool, answers.get_pool),
            runtime.answer(ListPools, answers.list_pools),
            runtime.answer(ListPoolDecisions, answers.list_decisions),
        ],
        views=[view],
        tables=[table],
        background=[lambda: pooling.run(performer.perform)],
    )
