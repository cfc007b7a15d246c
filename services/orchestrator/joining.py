"""What the bot of a running task is told about the tasks that it has spawned, at once or when they end."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from services.orchestrator.board import Board, Change, TaskChange
from services.orchestrator.decider.task_state import Ended, Held, Unknown, state_name
from shared.contracts.orchestrator.protocol import Child, ChildrenAsked, ChildrenTold
from shared.contracts.orchestrator.queries import TaskDoc
from shared.contracts.words import CHILDREN_MAX, JOIN_WITHIN_S_MAX, BotId, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound, Rejected, Unavailable

TOLD_BYTES_MAX: Final = 800_000


class Joining:
    """Answers from the board; results come from `document`."""

    def __init__(self, board: Board, document: Callable[[TaskId], Awaitable[TaskDoc]]) -> None:
        self._board = board
        self._document = document
        self._waiting: defaultdict[TaskId, list[asyncio.Future[None]]] = defaultdict(list)

    def changed(self, change: Change) -> None:
        """A child has ended, or its parent is held no more as it was: who waits looks again."""
        if not isinstance(change, TaskChange):
            return
        parent = self._board.families.parent_of(change.task_id)
        if parent is not None and isinstance(change.after, Ended):
            self._wake(parent)
        if isinstance(change.before, Held):
            self._wake(change.task_id)

    async def tell(self, bot_id: BotId, asked: ChildrenAsked) -> ChildrenTold:
        """Raises Rejected when the attempt is not the bot's, NotFound for what is no child of its task."""
        if len(asked.ids) > CHILDREN_MAX or asked.until not in ("now", "any", "all"):
            raise Rejected("bad_question", f"at most {CHILDREN_MAX} ids; `until` is now, any or all")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(asked.within_s, 0.0), JOIN_WITHIN_S_MAX)):
                while not self._is_enough(self._ids(bot_id, asked), asked):
                    await self._next_change(asked.task_id)
        return ChildrenTold(children=await self._told(asked.task_id, self._ids(bot_id, asked)))

    def _ids(self, bot_id: BotId, asked: ChildrenAsked) -> Sequence[TaskId]:
        task = self._board.task(asked.task_id)
        if not (isinstance(task, Held) and (task.bot_id, task.token) == (bot_id, asked.token)):
            if asked.token > self._board.reached:
                raise Unavailable("the view has not seen this token yet")
            raise Rejected("stale_token", f"attempt {asked.token} of {asked.task_id} is not {bot_id}'s")
        children = self._board.families.of(asked.task_id)
        for task_id in asked.ids:
            if task_id not in children:
                raise NotFound("child_not_found", f"{asked.task_id} has spawned no task {task_id}")
        return asked.ids or list(children)

    def _is_enough(self, ids: Sequence[TaskId], asked: ChildrenAsked) -> bool:
        children = self._board.families.of(asked.task_id)
        ended = sum(children[task_id] is not None for task_id in ids)
        match asked.until:
            case "any":
                return ended > 0 or not ids
            case "all":
                return ended == len(ids)
            case _:
                return True

    async def _told(self, parent: TaskId, ids: Sequence[TaskId]) -> tuple[Child, ...]:
        told: list[Child] = []
        size = 0
        for task_id in ids:
            how = self._board.families.of(parent).get(task_id)
            if how is None:
                told.append(Child(id=task_id, state=self._state(task_id)))
                continue
            doc = await self._document(task_id)
            child = Child(id=task_id, state=doc.state, output=doc.output, error=doc.error, reason=doc.reason)
            size += len(encode(child))
            fits = size <= TOLD_BYTES_MAX or not told
            told.append(child if fits else Child(id=task_id, state=doc.state, more=True))
        return tuple(told)

    def _state(self, task_id: TaskId) -> str:
        state = self._board.task(task_id)
        return "queued" if isinstance(state, Unknown) else state_name(state)

    async def _next_change(self, parent: TaskId) -> None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[parent]
        waiting.append(changed)
        try:
            await changed
        finally:
            if changed in waiting:
                waiting.remove(changed)
            if not waiting and self._waiting.get(parent) is waiting:
                del self._waiting[parent]

    def _wake(self, parent: TaskId) -> None:
        for each in self._waiting.pop(parent, []):
            if not each.done():
                each.set_result(None)
