"""One assignment that a bot holds, from taking it to its stored report."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import assert_never

from bots.engines import Engine, Work
from bots.reports import Reports
from bots.showing import Publish, Showing
from shared.contracts.orchestrator.commands import Done, End, ReportTask, Stopped, Undone
from shared.contracts.orchestrator.facts import TaskError
from shared.contracts.orchestrator.protocol import Assignment, Held
from shared.contracts.words import BotId, SideEffects
from shared.kernel.errors import NotFound
from shared.runtime.clock import monotonic, now

_log = logging.getLogger(__name__)


class Why(Enum):
    """Why an attempt is stopped before its end. Who stopped it for the first two knows already: no report."""

    CANCELLED = "cancelled"
    NOT_HELD = "not_held"
    CUT_OFF = "cut_off"
    SHUT_DOWN = "shut_down"


@dataclass(frozen=True)
class Bench:
    """What every run of one bot works with."""

    bot_id: BotId
    engine: Engine
    workspace: Path
    reports: Reports
    publish: Publish


class Run:
    """One attempt. `named`: a heartbeat has said that it is held."""

    def __init__(self, task: Assignment, bench: Bench) -> None:
        self.task = task
        self.named = False
        self._bench = bench
        self._showing: Showing
        self._attempt: asyncio.Task[None] | None = None
        self._begun = False
        self._working = True
        self._stopped: Why | None = None

    @property
    def is_news(self) -> bool:
        """Whether the owner should hear now that it was taken: a report that is on its way says so, too."""
        return self._working and not self.named

    @property
    def held(self) -> Held:
        """How a heartbeat names it."""
        return Held(task_id=self.task.task_id, token=self.task.token, progress=self._showing.written.share)

    def start(self, group: asyncio.TaskGroup, when_over: Callable[[], None]) -> None:
        """Work on it in a task of the group; `when_over` is called whatever happens."""
        self._showing = Showing(self.task, self._bench.publish, group)
        self._attempt = group.create_task(self._attempt_it(), name=f"{self.task.task_id}:{self.task.token}")
        self._attempt.add_done_callback(lambda _: when_over())

    def stop(self, why: Why) -> None:
        """Stop the engine now; a report that is under way is still sent."""
        if self._working and self._stopped is None and self._attempt is not None:
            self._stopped = why
            self._attempt.cancel()

    def give_up(self) -> None:
        """The process ends: stop even the report."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def _attempt_it(self) -> None:
        started_at = now()
        end: End | None = None
        try:
            end = await self._work()
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            _forgive()
            end = self._end_of(self._stopped)
        finally:
            self._working = False
            await self._showing.stop(told=_told_by(end))
        if end is not None:
            await self._bench.reports.report(self._report(end, started_at), self.task)

    async def _work(self) -> End | None:
        """How it ended; None: it was not ours to begin."""
        task, bench = self.task, self._bench
        if task.side_effects is SideEffects.ASK and not await bench.reports.claim(task):
            return None
        try:
            given = await bench.reports.input_of(task)
        except NotFound as error:
            return Undone(error=TaskError(code=error.code, detail=error.detail))
        limit_s = task.timeout_s
        if task.deadline is not None:
            limit_s = min(limit_s, (task.deadline - now()).total_seconds())
        self._begun = True
        limit = asyncio.timeout(max(0.0, limit_s))
        try:
            async with limit:
                work = Work(task, bench.workspace, given, monotonic() + limit_s)
                return await bench.engine.run(work, self._showing.written)
        except Exception as error:  # noqa: BLE001  an engine may fail in any way: that is the attempt's end
            if limit.expired():
                return self._undone("timed_out", f"not done within {limit_s:g} s")
            _log.exception("the engine failed on %s", task.task_id)
            return self._undone("engine_failed", f"{type(error).__name__}: {error}")

    def _undone(self, code: str, detail: str) -> Undone:
        return Undone(error=TaskError(code=code, detail=detail), output=self._showing.written.output())

    def _end_of(self, why: Why) -> Stopped | None:
        match why:
            case Why.CANCELLED | Why.NOT_HELD:
                return None
            case Why.CUT_OFF | Why.SHUT_DOWN:
                return Stopped(reason=why.value, begun=self._begun)

    def _report(self, end: End, started_at: datetime) -> ReportTask:
        return ReportTask(
            task_id=self.task.task_id,
            bot_id=self._bench.bot_id,
            token=self.task.token,
            started_at=started_at,
            ended_at=now(),
            end=end,
        )


def _forgive() -> None:
    """The cancellation was our own, and is answered: what follows may wait and time out as ever."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


def _told_by(end: End | None) -> str | None:
    """The text that the report holds, if there is one."""
    match end:
        case Done() | Undone():
            return end.output.text
        case Stopped() | None:
            return None
        case _:
            assert_never(end)
