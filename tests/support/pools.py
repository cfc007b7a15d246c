"""Pools behind a web application: the real fold, rows and answers, over a table in memory."""

import sqlite3
import weakref
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

from services.orchestrator.board import Board
from services.orchestrator.hosts import Hosts
from services.orchestrator.liveness import Liveness
from services.orchestrator.opinions import Opinions
from services.orchestrator.placement import Placement
from services.orchestrator.pool_answers import PoolAnswers
from services.orchestrator.pool_board import Pools
from services.orchestrator.pool_tables import SCHEMA, rows
from services.orchestrator.scene import Moment, Scene
from shared.contracts.config import Config
from shared.contracts.orchestrator.pools import GetPool, ListPoolDecisions, ListPools
from shared.kernel.messages import Recorded

PoolsQuery = GetPool | ListPools | ListPoolDecisions


class ToldPools:
    """Hears commits of pools, and answers about them. There are no bots and no hosts."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        board = Board()
        placement = Placement(board, Opinions(), Random(1).random)
        self._pools = Pools(Scene(board, Liveness(0.0), Hosts(), placement))
        self._rows = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        weakref.finalize(self, self._rows.close)
        for statement in SCHEMA:
            self._rows.execute(statement)
        self._answers = PoolAnswers(
            self._pools,
            self,  # type: ignore[arg-type] # all that is asked of a table is `read`
            moment=lambda: Moment(now(), 0.0, Config()),
            seen=self._seen,
        )

    def heard(self, commit: Recorded[Any]) -> None:
        """A commit of a pool."""
        self._pools.take(commit)
        for sql, values in rows([commit], self._read):
            self._rows.executemany(sql, values)

    async def answer(self, query: PoolsQuery) -> Any:
        match query:
            case GetPool():
                return await self._answers.get_pool(query)
            case ListPools():
                return await self._answers.list_pools(query)
            case ListPoolDecisions():
                return await self._answers.list_decisions(query)

    async def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """As a table does."""
        return self._read(sql, values)

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._rows.execute(sql, values).fetchall()

    async def _seen(self, sequence: int) -> None:
        """Nothing is ever behind."""
