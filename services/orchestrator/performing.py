"""Performs steps. Each may fail, be performed twice or come too late, and does no harm by it."""

from collections.abc import Callable
from typing import Protocol, assert_never

from services.orchestrator.commands import (
    AssignTask,
    BotWish,
    CancelOrphan,
    ExpireTask,
    FailDependent,
    LoseAttempt,
    NoteBotCleared,
    NoteLaunchFailed,
    NoteTaskStarted,
    PlaceTask,
    RefuseSpawn,
    ReleaseTask,
    TaskWish,
    WithdrawAssignment,
)
from services.orchestrator.decider.task_state import Task
from services.orchestrator.outside import Outside
from services.orchestrator.scene import Scene
from services.orchestrator.steps import (
    ClearBot,
    Decide,
    Dispatch,
    MakeQueue,
    Recall,
    StartProcess,
    Step,
    StopProcess,
    Tell,
    key_of,
)
from shared.contracts.orchestrator.facts import TaskError
from shared.contracts.orchestrator.protocol import RetireOrder, StartOrder, StopOrder
from shared.contracts.words import BotId, TaskId
from shared.kernel.messages import Cause, Committed, Outcome
from shared.runtime.ids import derived_id


class DecidesTasks(Protocol):
    """The handler of tasks."""

    async def handle(self, command: TaskWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...

    async def state(self, aggregate_id: str) -> tuple[Task, int]:
        """A task as the log has it."""
        ...


class DecidesBots(Protocol):
    """The handler of bots."""

    async def handle(self, command: BotWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...


class Performer:
    """Does what reactions name."""

    def __init__(
        self,
        tasks: DecidesTasks,
        bots: DecidesBots,
        outside: Outside,
        scene: Scene,
        monotonic: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._bots = bots
        self._outside = outside
        self._scene = scene
        self._monotonic = monotonic

    async def perform(self, step: Step) -> None:
        """Do it. Unavailable: it stays outstanding."""
        match step:
            case Dispatch():
                await self._outside.dispatch(step.bot_id, step.assignment)
                self._scene.liveness.dispatched(step.assignment.token, self._monotonic())
            case Decide():
                await self._decide(step)
            case StartProcess():
                await self._start(step)
            case MakeQueue():
                await self._make_queue(step.bot_id)
            case StopProcess():
                order = StopOrder(bot_id=step.bot_id, generation=step.generation, grace_s=step.grace_s)
                await self._outside.order(step.host, order)
            case ClearBot():
                await self._clear(step)
            case Tell():
                await self._outside.tell(step.bot_id, step.control)
            case Recall():
                await self._recall(step.task_id)
            case _:
                assert_never(step)

    async def _decide(self, step: Decide) -> None:
        command, command_id = step.command, derived_id("orchestrator", *key_of(step))
        match command:
            case AssignTask():
                try:
                    await self._tasks.handle(command, step.cause, command_id=command_id)
                finally:
                    self._scene.board.release(command.task_id)
            case WithdrawAssignment() | LoseAttempt():
                await self._take_away(command, step.cause, command_id)
            case (
                PlaceTask()
                | NoteTaskStarted()
                | ExpireTask()
                | ReleaseTask()
                | FailDependent()
                | CancelOrphan()
                | RefuseSpawn()
            ):
                await self._tasks.handle(command, step.cause, command_id=command_id)
            case _:
                await self._bots.handle(command, step.cause, command_id=command_id)

    async def _take_away(
        self, command: WithdrawAssignment | LoseAttempt, cause: Cause, command_id: str
    ) -> None:
        """An attempt whose report waits in our own queue is not lost: the report only has to be decided."""
        liveness = self._scene.liveness
        if await self._outside.command_waits(command.task_id):
            liveness.named(command.token, self._monotonic())
            return
        lease = liveness.leases.get(command.token)
        outcome = await self._tasks.handle(command, cause, command_id=command_id)
        untaken = isinstance(command, WithdrawAssignment) and isinstance(outcome, Committed)
        if untaken and lease is not None:
            liveness.distrust(lease.bot_id, self._monotonic())

    async def _start(self, step: StartProcess) -> None:
        await self._make_queue(step.bot_id)
        order = StartOrder(bot_id=step.bot_id, generation=step.generation, spec=step.spec)
        answer = await self._outside.order(self._scene.hosts.home(step.spec), order)
        if answer.ok:
            self._scene.hosts.ordered(step.bot_id, step.generation, self._monotonic())
            return
        failed = NoteLaunchFailed(
            bot_id=step.bot_id,
            generation=step.generation,
            error=TaskError(code=answer.code, detail=answer.detail),
        )
        await self._bots.handle(
            failed, step.cause, command_id=derived_id("orchestrator", "refused", *key_of(step))
        )

    async def _make_queue(self, bot_id: BotId) -> None:
        await self._outside.make_queue(bot_id)
        self._scene.queues.made(bot_id)

    async def _recall(self, task_id: TaskId) -> None:
        task, _ = await self._tasks.state(task_id)
        self._scene.board.kin.learned(task_id, task)

    async def _clear(self, step: ClearBot) -> None:
        answer = await self._outside.order(
            step.host, RetireOrder(bot_id=step.bot_id, generation=step.generation)
        )
        if not answer.ok:
            return
        await self._outside.remove_queue(step.bot_id)
        cleared = NoteBotCleared(bot_id=step.bot_id, generation=step.generation)
        await self._bots.handle(cleared, step.cause, command_id=derived_id("orchestrator", *key_of(step)))
