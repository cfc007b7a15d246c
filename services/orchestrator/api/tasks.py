"""Tasks over HTTP: submit, list, look at, cancel, resume; and the trees they make by spawning others."""

from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath

from services.orchestrator.api.looking import ORCHESTRATOR, task_after, task_named
from services.orchestrator.api.requests import CancelAsked, NewTask, Receipt, TasksAsked, TreeAsked, Waited
from services.orchestrator.api.submitting import id_for, submission
from shared.contracts.orchestrator.commands import CancelTask, ResumeTask, TaskCommand
from shared.contracts.orchestrator.queries import (
    GetTask,
    GetTimeline,
    GetTree,
    GetWhy,
    ListTasks,
    TaskDoc,
    Timeline,
    Tree,
    Why,
)
from shared.contracts.words import BotId, Page, TaskId
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import AlreadySo
from shared.runtime.answers import REPLAYED, Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Doors, Seams, principal_of
from shared.runtime.looking import found, on_its_way
from shared.runtime.openapi import AT_LEAST, IDEMPOTENCY_KEY, PREFER, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given, idempotency_key, wants_minimal

READ: Final = "tasks:read"
WRITE: Final = "tasks:write"
TASK_BYTES_MAX: Final = 2_500_000  # the largest input, each line break and quote of it escaped, and the rest
NOT_SHOWN_YET: Final = "It is decided, but the views do not show it yet: ask again at Location."

NEW_TASK: Final = Body(NewTask, bytes_max=TASK_BYTES_MAX)
CANCEL_ASKED: Final = Body(CancelAsked, default=CancelAsked())
WAITED: Final = Parameters(Waited)
TREE_ASKED: Final = Parameters(TreeAsked)
TASKS_ASKED: Final = Parameters(TasksAsked)

_TASK: Final = Says(meaning="The task.", form=TaskDoc, headers=("Hive-Version",))
PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


@post(
    "/tasks",
    says=Operation(
        summary="Submit a task",
        scope=WRITE,
        body=NEW_TASK,
        query=WAITED,
        headers=(IDEMPOTENCY_KEY, PREFER),
        answers={
            201: Says(
                meaning="The task, at its end if that was waited for; or a receipt, if that was preferred.",
                form=TaskDoc,
                or_form=Receipt,
                headers=("Location", "Hive-Version", REPLAYED, "Preference-Applied"),
            ),
            202: PENDING,
        },
        problems=(409, 422),
    ),
)
async def submit_task(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Asked twice with one idempotency key and the same body, it is done once."""
    asked = await NEW_TASK.read(request)
    wait_s = WAITED.read(request).wait
    caller = principal_of(request)
    key = idempotency_key(request)
    task_id = id_for(caller) if key is None else id_for(caller, key)
    command = await submission(doors, caller, task_id, asked)
    location = f"/v1/tasks/{task_id}"
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(location, task_id)
    version = settled(outcome)
    headers = {"Location": location}
    if isinstance(outcome, AlreadySo):
        headers[REPLAYED] = "true"
    if wants_minimal(request) and wait_s == 0:
        headers["Preference-Applied"] = "return=minimal"
        return document(Receipt(id=task_id, version=version), status=201, version=version, headers=headers)
    try:
        task = await task_after(doors, task_id, wait_s, version)
    except (Behind, NotFound, Unavailable):
        return pending(location, task_id, version=version, detail=NOT_SHOWN_YET)
    return document(task, status=201, version=task.version, headers=headers)


@get(
    "/tasks",
    says=Operation(
        summary="List tasks",
        scope=READ,
        query=TASKS_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="Tasks, newest first.", form=Page[TaskDoc])},
        problems=(409,),
    ),
)
async def list_tasks(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Page by page: `next_cursor` asks for what follows."""
    asked = TASKS_ASKED.read(request)
    page = await doors.ask(
        ListTasks(
            state=given(asked.state),
            type=given(asked.type),
            bot=BotId(asked.bot) if asked.bot else None,
            priority=given(asked.priority),
            cursor=given(asked.cursor),
            limit=asked.limit,
            at_least=at_least(request),
        )
    )
    return document(page)


@get(
    "/tasks/{task_id:str}",
    says=Operation(
        summary="Show a task",
        scope=READ,
        query=WAITED,
        headers=(AT_LEAST,),
        answers={200: _TASK, 202: PENDING},
        problems=(409,),
    ),
)
async def show_task(request: Request[Any, Any, Any], doors: Seams, task_id: FromPath[str]) -> Response[bytes]:
    """With `wait`, when it has ended or stands still, or as it is when the wait is over."""
    wanted = task_named(task_id)
    wait_s = WAITED.read(request).wait
    try:
        task = await task_after(doors, wanted, wait_s, at_least(request))
    except NotFound as missing:
        return await on_its_way(doors, ORCHESTRATOR, "task", wanted, missing)
    return document(task, version=task.version)


@get(
    "/tasks/{task_id:str}/timeline",
    says=Operation(
        summary="Show a task's timeline",
        scope=READ,
        answers={200: Says(meaning="Every fact of it, in order.", form=Timeline), 202: PENDING},
    ),
)
async def show_timeline(doors: Seams, task_id: FromPath[str]) -> Response[bytes]:
    """Each fact with its actor, its cause, and the time since the one before it."""
    wanted = task_named(task_id)
    timeline = await found(doors, GetTimeline(task_id=wanted), "task", wanted)
    return timeline if isinstance(timeline, Response) else document(timeline)


@get(
    "/tasks/{task_id:str}/why",
    says=Operation(
        summary="Say what a task waits for",
        scope=READ,
        answers={200: Says(meaning="What it waits for.", form=Why), 202: PENDING},
    ),
)
async def show_why(doors: Seams, task_id: FromPath[str]) -> Response[bytes]:
    """In a sentence, and bot by bot."""
    wanted = task_named(task_id)
    why = await found(doors, GetWhy(task_id=wanted), "task", wanted)
    return why if isinstance(why, Response) else document(why)


@get(
    "/tasks/{task_id:str}/tree",
    says=Operation(
        summary="Show a task and all that descends from it",
        scope=READ,
        headers=(AT_LEAST,),
        answers={
            200: Says(meaning="The task first, each other one after its parent.", form=Tree),
            202: PENDING,
        },
        problems=(409,),
    ),
)
async def show_tree(request: Request[Any, Any, Any], doors: Seams, task_id: FromPath[str]) -> Response[bytes]:
    """What its bot has spawned, what their bots have spawned, and so on: at most 1,000."""
    wanted = task_named(task_id)
    tree = await found(doors, GetTree(task_id=wanted, at_least=at_least(request)), "task", wanted)
    return tree if isinstance(tree, Response) else document(tree)


@post(
    "/tasks/{task_id:str}/cancel",
    status_code=200,
    says=Operation(
        summary="Cancel a task",
        scope=WRITE,
        body=CANCEL_ASKED,
        query=TREE_ASKED,
        answers={200: _TASK, 202: PENDING},
        problems=(409,),
    ),
)
async def cancel_task(
    request: Request[Any, Any, Any], doors: Seams, task_id: FromPath[str]
) -> Response[bytes]:
    """Also while a bot works on it: the bot is told to stop. What it has spawned is cancelled with it.

    With `tree` one that has ended is no mistake: what descends from it is cancelled.
    """
    wanted = task_named(task_id)
    asked = await CANCEL_ASKED.read(request)
    tree = TREE_ASKED.read(request).tree
    return await _change(request, doors, wanted, CancelTask(task_id=wanted, reason=asked.reason, tree=tree))


@post(
    "/tasks/{task_id:str}/resume",
    status_code=200,
    says=Operation(
        summary="Resume a blocked task",
        scope=WRITE,
        answers={200: _TASK, 202: PENDING},
        problems=(409,),
    ),
)
async def resume_task(
    request: Request[Any, Any, Any], doors: Seams, task_id: FromPath[str]
) -> Response[bytes]:
    """A person looked at it, and it may run again."""
    wanted = task_named(task_id)
    return await _change(request, doors, wanted, ResumeTask(task_id=wanted))


async def _change(
    request: Request[Any, Any, Any], doors: Doors, task_id: TaskId, command: TaskCommand
) -> Response[bytes]:
    actor = principal_of(request).actor
    outcome = await doors.send(command, actor=actor, wait_s=doors.config().answer_wait_s)
    location = f"/v1/tasks/{task_id}"
    if outcome is None:
        return pending(location, task_id)
    version = settled(outcome)
    try:
        task = await doors.ask(GetTask(task_id=task_id, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(location, task_id, version=version, detail=NOT_SHOWN_YET)
    return document(task, version=task.version)


ROUTES: Final = (
    submit_task,
    list_tasks,
    show_task,
    show_timeline,
    show_why,
    show_tree,
    cancel_task,
    resume_task,
)
