"""Schedules at work: looks at each when it is due, and submits the tasks of its ticks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol, assert_never

import msgspec

from services.scheduler.schedule_board import Board, Due
from services.scheduler.schedule_commands import NoteRefused, ScheduleWish
from services.scheduler.schedule_facts import SUBMITTER, ScheduleEvent
from services.scheduler.schedule_keeping import Open
from shared.contracts.orchestrator.commands import SubmitTask
from shared.contracts.orchestrator.facts import RetryPolicy
from shared.contracts.scheduler.schedules import ScheduleTicked, ScheduleTicksMissed
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import AlreadySo, Cause, Committed, Failed, Outcome, Recorded, Refused
from shared.runtime import metrics
from shared.runtime.commands import Send
from shared.runtime.ids import derived_id
from shared.runtime.outstanding import Outstanding

LOOK_EVERY_S: Final = 0.25
"""So often the time of day is looked at: who sets the clock makes a tick so late at most."""
DUE_AT_ONCE_MAX: Final = 256
PERFORMED_AT_ONCE_MAX: Final = 512
SUBMITTED_AT_ONCE_MAX: Final = 4_096


class Submit(msgspec.Struct, frozen=True):
    """Submit the task of a tick."""

    open: Open


Step = Due | Submit


class Decides(Protocol):
    """The handler of schedules."""

    async def handle(self, command: ScheduleWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...


def key_of(step: Step) -> tuple[str, ...]:
    """What makes two steps the same: while one is under way, the other is not begun."""
    match step:
        case Due():
            return ("tick", step.command.name)
        case Submit():
            return ("submit", step.open.task_id)
        case _:
            assert_never(step)


def measured(commit: Recorded[ScheduleEvent]) -> None:
    """Count the ticks of a commit of our own."""
    for fact in commit.facts:
        if isinstance(fact, ScheduleTicked):
            metrics.TICKS.labels(fact.outcome).inc()
            if fact.outcome != "skipped" and not fact.manual:
                metrics.TICK_LATE.observe(fact.late_s)
        elif isinstance(fact, ScheduleTicksMissed):
            metrics.TICKS.labels("skipped").inc(fact.count)


class Ticking:
    """Only who owns a schedule's partition looks at it. A step that failed is found again by `todo`."""

    def __init__(
        self, board: Board, *, now: Callable[[], datetime], owned: Callable[[], frozenset[int]]
    ) -> None:
        self._board = board
        self._now = now
        self._owned = owned
        self._wake = asyncio.Event()
        self._outstanding: Outstanding[Step]

    def followed(self, commit: Recorded[Any]) -> None:
        """A commit as the log tells it."""
        if commit.aggregate == "schedule":
            self._board.take_schedule(commit)
            self._wake.set()
        elif self._board.take_task(commit):
            self._wake.set()

    async def run(self, perform: Callable[[Step], Awaitable[None]]) -> None:
        """Look at what is due when it is due, for ever."""
        async with asyncio.TaskGroup() as group:
            self._outstanding = Outstanding(group, perform, key_of)
            while True:
                self._wake.clear()
                self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._wake.wait()

    async def todo(self, owned: frozenset[int]) -> None:
        """Everything outstanding in these partitions."""
        self._board.owned = owned
        self._board.look_again()
        self._wake.set()

    def _look(self) -> None:
        self._board.owned = self._owned()
        if self._board.owned:
            self._outstanding.begin(self._steps())

    def _steps(self) -> Iterator[Step]:
        yield from self._board.due(self._now(), DUE_AT_ONCE_MAX)
        for each in list(self._board.to_submit(SUBMITTED_AT_ONCE_MAX)):
            yield Submit(each)

    def _pause_s(self) -> float:
        wake = self._board.next_wake() if self._board.owned else None
        if wake is None:
            return LOOK_EVERY_S
        return min(max((wake - self._now()).total_seconds(), 0.0), LOOK_EVERY_S)


class Performer:
    """Decides what is due, and submits. Each may be done twice: the log, and the orchestrator, know it."""

    def __init__(self, board: Board, schedules: Decides, send: Send) -> None:
        self._board = board
        self._schedules = schedules
        self._send = send
        # Apart: while the orchestrator is away submissions wait long, and ticks must not wait behind them.
        self._ticks = asyncio.Semaphore(PERFORMED_AT_ONCE_MAX)
        self._submissions = asyncio.Semaphore(PERFORMED_AT_ONCE_MAX)

    async def perform(self, step: Step) -> None:
        """Do it. Unavailable: it stays outstanding."""
        match step:
            case Due():
                async with self._ticks:
                    await self._tick(step)
            case Submit():
                async with self._submissions:
                    await self._submit(step.open)
            case _:
                assert_never(step)

    async def _tick(self, due: Due) -> None:
        name = due.command.name
        command_id = derived_id("tick", name, str(due.about))
        cause = Cause(message_id=command_id, correlation_id=command_id, actor=f"{SUBMITTER}{name}")
        await self._schedules.handle(due.command, cause, command_id=command_id)

    async def _submit(self, task: Open) -> None:
        actor, command_id = f"{SUBMITTER}{task.name}", derived_id("scheduled", task.task_id)
        outcome = await self._send(_submission(task), actor=actor, command_id=command_id, chain=task.chain)
        match outcome:
            case None:
                raise Unavailable(f"nobody has confirmed {task.task_id} yet")
            case Committed() | AlreadySo():
                self._board.submitted(task.task_id)
            case Refused():
                await self._refused(task, actor, outcome.code, outcome.detail)
            case Failed():
                detail = f"it lies in the dead letters as {outcome.dead_letter}: {outcome.detail}"
                await self._refused(task, actor, "dead_lettered", detail)
            case _:
                assert_never(outcome)

    async def _refused(self, task: Open, actor: str, code: str, detail: str) -> None:
        command_id = derived_id("refused", task.task_id)
        cause = Cause(message_id=command_id, correlation_id=task.chain, actor=actor)
        note = NoteRefused(name=task.name, task_id=task.task_id, code=code, detail=detail)
        await self._schedules.handle(note, cause, command_id=command_id)


def _submission(task: Open) -> SubmitTask:
    template, retry = task.task, task.task.retry
    return SubmitTask(
        task_id=task.task_id,
        content=template.content,
        body_hash=sha256(encode(template)).hexdigest(),
        submitter=f"{SUBMITTER}{task.name}",
        priority=template.priority,
        type=template.type,
        timeout_s=template.timeout_s,
        engine=template.engine,
        bot=template.bot,
        pool=template.pool,
        retry=RetryPolicy(
            attempts_max=retry.attempts_max,
            backoff_first_s=retry.backoff_first_s,
            backoff_max_s=retry.backoff_max_s,
            side_effects=retry.side_effects,
        ),
    )
