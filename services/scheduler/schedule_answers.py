"""What the scheduler answers about schedules and their receipts."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import accumulate, islice
from typing import Final

from services.scheduler.decider.schedule_state import Schedule, State
from services.scheduler.schedule_board import Board
from services.scheduler.schedule_keeping import Kept
from services.scheduler.schedule_tables import (
    SELECT_EVER,
    SELECT_ONE,
    kept_of,
    receipts_of,
    select_receipts,
    select_schedules,
)
from services.scheduler.timetable import due_after
from shared.contracts.scheduler.schedules import (
    NEXT_SHOWN,
    GetSchedule,
    ListReceipts,
    ListSchedules,
    Receipt,
    ScheduleDoc,
    ScheduleName,
)
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX, Page
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound
from shared.runtime.handler import Known
from shared.runtime.views import Table

RUNNING_SHOWN: Final = 20
PAGE_BYTES_MAX: Final = BROKER_PAYLOAD_BYTES_MAX * 9 // 10


class ScheduleAnswers:
    """Documents for whoever asks, from the table; what runs, from memory."""

    def __init__(
        self,
        board: Board,
        table: Table,
        *,
        now: Callable[[], datetime],
        seen: Callable[[int], Awaitable[None]],
    ) -> None:
        self._board = board
        self._table = table
        self._now = now
        self._seen = seen

    async def get_schedule(self, query: GetSchedule) -> ScheduleDoc:
        """One schedule."""
        await self._seen(query.at_least)
        found = await self._table.read(SELECT_ONE, (query.name,))
        if not found:
            if await self._table.read(SELECT_EVER, (query.name,)):
                raise NotFound("schedule_removed", f"the schedule {query.name} was removed")
            raise _missing(query.name)
        return self._doc(kept_of(found[0]))

    async def list_schedules(self, query: ListSchedules) -> Page[ScheduleDoc]:
        """Schedules by name."""
        await self._seen(query.at_least)
        found = await self._table.read(*select_schedules(query))
        docs = [self._doc(kept_of(row)) for row in found[: query.limit]]
        sizes = accumulate(len(encode(doc)) + 1 for doc in docs)
        fitting = max(1, sum(size <= PAGE_BYTES_MAX for size in sizes))
        more = docs[fitting - 1].name if len(found) > fitting else None
        return Page(items=docs[:fitting], next_cursor=more)

    async def list_receipts(self, query: ListReceipts) -> Page[Receipt]:
        """A schedule's receipts, newest first."""
        await self._seen(query.at_least)
        found = await self._table.read(*select_receipts(query))
        if not found and not await self._table.read(SELECT_EVER, (query.name,)):
            raise _missing(query.name)
        return receipts_of(found, query.limit)

    def _doc(self, kept: Kept) -> ScheduleDoc:
        state = kept.state
        assert isinstance(state, Schedule), state
        due = due_after(state.timetable, state.anchor, state.cursor)
        finished = next(due, None) is None and state.waiting is None
        coming = due_after(state.timetable, state.anchor, max(state.cursor, self._now()))
        plan = state.plan
        return ScheduleDoc(
            name=state.name,
            version=kept.version,
            state="paused" if state.paused else "finished" if finished else "active",
            expression=plan.expression,
            timezone=plan.timezone,
            task=plan.task,
            jitter_s=plan.jitter_s,
            catch_up=plan.catch_up,
            overlap=plan.overlap,
            owner=kept.owner,
            created_at=kept.created_at,
            changed_at=kept.changed_at,
            next=() if state.paused else tuple(islice(coming, NEXT_SHOWN)),
            fired=kept.fired,
            late=kept.late,
            skipped=kept.skipped,
            last_due_at=kept.last_due_at,
            waiting=state.waiting,
            running=tuple(islice(self._board.running(state.name), RUNNING_SHOWN)),
        )


def recall(board: Board, name: str) -> Known[State] | None:
    """A schedule as memory has it: its handler need not read its whole life."""
    entry = board.entries.get(ScheduleName(name))
    if entry is None:
        return None
    kept = entry.kept
    return Known(state=kept.state, version=kept.version, at=kept.at, causes=kept.causes)


def _missing(name: str) -> NotFound:
    return NotFound("schedule_not_found", f"there is no schedule {name}")
