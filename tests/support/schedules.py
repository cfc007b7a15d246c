"""The schedules' share of a scheduler without a process: its own rules, rows and answers. No time passes."""

import sqlite3
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from services.scheduler.schedule_answers import ScheduleAnswers
from services.scheduler.schedule_board import Board
from services.scheduler.schedule_tables import SCHEMA, rows
from shared.contracts.scheduler.schedules import GetSchedule, ListReceipts, ListSchedules
from shared.kernel.messages import Recorded
from shared.runtime.views import Table

SchedulesQuery = GetSchedule | ListSchedules | ListReceipts


class ToldSchedules:
    """Hears commits of schedules and tasks, and answers what is asked about them."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._file = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._file.close)
        for statement in SCHEMA:
            self._file.execute(statement)
        self.board = Board()
        self._answers = ScheduleAnswers(self.board, cast("Table", self), now=now, seen=self._seen)

    def heard(self, commit: Recorded[Any]) -> None:
        if commit.aggregate == "task":
            self.board.take_task(commit)
        else:
            self.board.take_schedule(commit)
        for sql, values in rows([commit], self.look):
            self._file.executemany(sql, values)

    def look(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._file.execute(sql, values).fetchall()

    async def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.look(sql, values)

    async def answer(self, query: SchedulesQuery) -> Any:
        match query:
            case GetSchedule():
                return await self._answers.get_schedule(query)
            case ListSchedules():
                return await self._answers.list_schedules(query)
            case ListReceipts():
                return await self._answers.list_receipts(query)

    async def _seen(self, sequence: int) -> None: ...
