"""How tasks and bots are named in paths, and how the end of a task is waited for."""

from typing import Final

from shared.contracts.orchestrator.queries import AwaitTask, GetTask, TaskDoc
from shared.contracts.words import BotId, TaskId, is_name
from shared.kernel.errors import NotFound
from shared.runtime.clock import monotonic
from shared.runtime.doors import Doors

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
