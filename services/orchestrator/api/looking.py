"""How a task or a bot is looked up: in the owner's view, and, if that lacks it, wherever else it may be."""

from typing import Final, TypeVar, assert_never

from litestar import Response

from shared.contracts.orchestrator.queries import AwaitTask, GetTask, TaskDoc
from shared.contracts.words import BotId, TaskId, is_name
from shared.kernel.errors import NotFound
from shared.kernel.messages import Query
from shared.runtime.answers import dead_lettered, pending
from shared.runtime.clock import monotonic
from shared.runtime.doors import Doors
from shared.runtime.whereabouts import Dead, Nowhere, OnItsWay

A = TypeVar("A")

ORCHESTRATOR: Final = "orchestrator"
ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired"})
STANDING: Final = frozenset({"blocked"})
"""Not ended, and nothing more happens until a person says so."""

WAIT_AT_ONCE_S: Final = 25.0
ANSWER_S: Final = 5.0  # what a question may take besides the wait that it asks for


def task_named(text: str) -> TaskId:
    """A task's id from a path; NotFound where it cannot be one."""
    if not is_name(text):
        raise NotFound("task_not_found", "there is no such task")
    return TaskId(text)


def bot_named(text: str) -> BotId:
    """A bot's name from a path; NotFound where it cannot be one."""
    if not is_name(text):
        raise NotFound("bot_not_found", "there is no such bot")
    return BotId(text)


async def found(doors: Doors, query: Query[A], aggregate: str, aggregate_id: str) -> A | Response[bytes]:
    """What the view answers; 202 while the thing is on its way there."""
    try:
        return await doors.ask(query)
    except NotFound as missing:
        return await on_its_way(doors, aggregate, aggregate_id, missing)


async def on_its_way(doors: Doors, aggregate: str, aggregate_id: str, missing: NotFound) -> Response[bytes]:
    """The answer while the view lacks it: 202; else it is said to lie dead, or to be `missing`."""
    match await doors.whereabouts(ORCHESTRATOR, aggregate, aggregate_id):
        case OnItsWay():
            return pending(f"/v1/{aggregate}s/{aggregate_id}", aggregate_id)
        case Dead() as dead:
            raise dead_lettered(dead.letter_id, dead.reason)
        case Nowhere():
            raise missing
        case place:
            assert_never(place)


async def task_after(doors: Doors, task_id: TaskId, wait_s: float, version: int) -> TaskDoc:
    """The task when nothing more happens by itself, or as it is when the wait is over."""
    deadline = monotonic() + wait_s
    task: TaskDoc | None = None
    async with doors.patience.wait():
        while (left := deadline - monotonic()) > 0:
            query = AwaitTask(task_id=task_id, wait_s=min(left, WAIT_AT_ONCE_S), at_least=version)
            task = await doors.ask(query, timeout_s=query.wait_s + ANSWER_S)
            if task.state in ENDED | STANDING:
                return task
    if task is None or doors.patience.over:
        task = await doors.ask(GetTask(task_id=task_id, at_least=version))
    return task
