"""A task's output as it appears: server-sent events, resumable by the id of the last one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from litestar import Request, Response, get
from litestar.params import FromPath

from services.orchestrator.api.looking import ENDED, WAIT_AT_ONCE_S, task_named
from services.orchestrator.api.tasks import PENDING, READ
from shared.contracts.orchestrator.queries import AwaitTask, GetTask, TaskDoc
from shared.contracts.words import TaskId
from shared.kernel.codec import encode
from shared.runtime.doors import Doors, Seams
from shared.runtime.live import Gap, Piece
from shared.runtime.looking import found
from shared.runtime.openapi import LAST_EVENT_ID, Operation, Says
from shared.runtime.parameters import last_event_id
from shared.runtime.sse import EVENT_STREAM, Emit, EventStream, event

CATCH_UP_S: Final = (
    2.0  # what a task printed last may be on its way for so long; the result has it in any case
)

Told = Piece | Gap | TaskDoc
"""What is told of a task: pieces of its output, where some are missing, and at last the task itself."""


@get(
    "/tasks/{task_id:str}/stream",
    says=Operation(
        summary="Follow a task's output",
        scope=READ,
        headers=(LAST_EVENT_ID,),
        answers={
            200: Says(
                meaning="Events `chunk` (a piece of output), `gap` (some can no longer be had), "
                "`moved` (come again), `problem`, and at last `end` with the task.",
                media_type=EVENT_STREAM,
            ),
            202: PENDING,
        },
    ),
)
async def stream_task(
    request: Request[Any, Any, Any], doors: Seams, task_id: FromPath[str]
) -> Response[bytes]:
    """The ids of chunks are sequences: `Last-Event-ID` goes on behind one. The whole result is in `end`."""
    wanted = task_named(task_id)
    after = last_event_id(request)
    task = await found(doors, GetTask(task_id=wanted), "task", wanted)
    if isinstance(task, Response):
        return task

    async def produce(emit: Emit) -> None:
        async def tell(told: Told) -> None:
            await emit(_event(told))

        await follow_task(doors, wanted, after, tell)

    return EventStream(produce, patience=doors.patience)


def _event(told: Told) -> bytes:
    match told:
        case Piece():
            return event("chunk", told.data, told.sequence)
        case Gap():
            return event("gap", encode(told))
        case TaskDoc():
            return event("end", encode(told))


async def follow_task(
    doors: Doors, task_id: TaskId, after: int, tell: Callable[[Told], Awaitable[None]]
) -> None:
    """Tell a task's output after a sequence, as it appears, and at last the task."""
    seen = after
    moved = asyncio.Condition()

    async def hear(word: Piece | Gap) -> None:
        nonlocal seen
        await tell(word)
        if isinstance(word, Piece):
            async with moved:
                seen = word.sequence
                moved.notify_all()

    async def follow() -> NoReturn:
        await doors.live.follow(task_id, after, hear)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow())
        task = await _end(doors, task_id)
        last = await doors.live.last(task_id)
        try:
            async with asyncio.timeout(CATCH_UP_S), moved:
                await moved.wait_for(lambda: seen >= last)
        except TimeoutError:
            pass
        following.cancel()
    await tell(task)


async def _end(doors: Doors, task_id: TaskId) -> TaskDoc:
    while True:
        query = AwaitTask(task_id=task_id, wait_s=WAIT_AT_ONCE_S)
        task = await doors.ask(query, timeout_s=WAIT_AT_ONCE_S + 5)
        if task.state in ENDED:
            return task


ROUTES: Final = (stream_task,)
