"""Schedules over HTTP: add, change, pause, resume, remove, run at once, and their receipts."""

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from shared.contracts.scheduler.schedules import (
    SCHEDULE_NAME_PATTERN,
    AddSchedule,
    ChangeSchedule,
    GetSchedule,
    ListReceipts,
    ListSchedules,
    PauseSchedule,
    Receipt,
    RemoveSchedule,
    ResumeSchedule,
    RunSchedule,
    ScheduleCommand,
    ScheduleDoc,
    ScheduleName,
    SchedulePlan,
)
from shared.contracts.words import Page, TaskId
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import AlreadySo, Outcome, Refused
from shared.runtime.answers import REPLAYED, Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Doors, Principal, Seams, principal_of
from shared.runtime.ids import derived_id, new_id
from shared.runtime.looking import on_its_way
from shared.runtime.openapi import AT_LEAST, IDEMPOTENCY_KEY, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given, idempotency_key
from shared.runtime.problems import Refusal, Wrong

READ: Final = "tasks:read"
WRITE: Final = "tasks:write"
SCHEDULE_BYTES_MAX: Final = 150_000  # the longest content, each character of it escaped as two
PAGE_MAX: Final = 200

_FIELD_OF: Final = {"bad_expression": "/expression", "bad_timezone": "/timezone"}
_NAME: Final[dict[str, Any]] = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,32}$"}
_NOT_SHOWN_YET: Final = "It is decided, but the views do not show it yet: ask again at Location."

Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]


class NewSchedule(SchedulePlan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule to be: its name, when, and what."""

    name: Annotated[ScheduleName, msgspec.Meta(pattern=SCHEDULE_NAME_PATTERN)]
    enabled: bool = True


class ChangedSchedule(SchedulePlan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole schedule as it is to be. Without `enabled` it stays paused, or not, as it is."""

    enabled: bool | None = None


class SchedulesAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the list."""

    cursor: Annotated[str, msgspec.Meta(pattern=SCHEDULE_NAME_PATTERN)] | UnsetType = UNSET
    limit: Limit = 50


class ReceiptsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the receipts."""

    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}(?!\n)$")] | UnsetType = UNSET
    limit: Limit = 50


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was asked for, and the task that it submits."""

    name: ScheduleName
    task_id: TaskId


NEW: Final = Body(NewSchedule, bytes_max=SCHEDULE_BYTES_MAX)
CHANGED: Final = Body(ChangedSchedule, bytes_max=SCHEDULE_BYTES_MAX)
SCHEDULES_ASKED: Final = Parameters(SchedulesAsked)
RECEIPTS_ASKED: Final = Parameters(ReceiptsAsked)

_SCHEDULE: Final = Says(meaning="The schedule.", form=ScheduleDoc, headers=("Hive-Version",))
_PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


@get(
    "/schedules",
    says=Operation(
        summary="List schedules",
        scope=READ,
        query=SCHEDULES_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="Schedules, by name.", form=Page[ScheduleDoc])},
        problems=(409,),
    ),
)
async def list_schedules(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Page by page: `next_cursor` asks for what follows."""
    asked = SCHEDULES_ASKED.read(request)
    query = ListSchedules(cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request))
    page: Page[ScheduleDoc] = await doors.ask(query)
    return document(page)


@post(
    "/schedules",
    says=Operation(
        summary="Add a schedule",
        scope=WRITE,
        body=NEW,
        answers={
            201: Says(
                meaning="It is there, and ticks unless `enabled` is false.",
                form=ScheduleDoc,
                headers=("Location", "Hive-Version", REPLAYED),
            ),
            202: _PENDING,
        },
        problems=(409, 422),
    ),
)
async def add_schedule(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Its name is its identity: the same asked twice is added once, another of that name is refused (409)."""
    asked = await NEW.read(request)
    caller = principal_of(request)
    command = AddSchedule(name=asked.name, plan=_plan(asked), owner=caller.key_id, enabled=asked.enabled)
    return await _decided(doors, caller, command, asked.name, created=True)


@get(
    "/schedules/{name:str}",
    says=Operation(
        summary="Show a schedule",
        scope=READ,
        headers=(AT_LEAST,),
        path={"name": _NAME},
        answers={200: _SCHEDULE, 202: _PENDING},
        problems=(409,),
    ),
)
async def show_schedule(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """With its next five due times, what runs, and what waits."""
    wanted = _named(name)
    try:
        schedule = await doors.ask(GetSchedule(name=wanted, at_least=at_least(request)))
    except NotFound as missing:
        if missing.code == "schedule_removed":
            raise
        return await on_its_way(doors, "scheduler", "schedule", wanted, missing)
    return document(schedule, version=schedule.version)


@put(
    "/schedules/{name:str}",
    says=Operation(
        summary="Change a schedule",
        scope=WRITE,
        body=CHANGED,
        path={"name": _NAME},
        answers={200: _SCHEDULE, 202: _PENDING},
        problems=(409, 422),
    ),
)
async def change_schedule(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """The body replaces the whole plan. Where it says other times, these begin now."""
    wanted = _named(name)
    asked = await CHANGED.read(request)
    command = ChangeSchedule(name=wanted, plan=_plan(asked), enabled=asked.enabled)
    return await _decided(doors, principal_of(request), command, wanted)


@delete(
    "/schedules/{name:str}",
    status_code=200,
    says=Operation(
        summary="Remove a schedule",
        scope=WRITE,
        path={"name": _NAME},
        answers={
            200: Says(meaning="It is gone; this is as it was. Its receipts stay.", form=ScheduleDoc),
            202: _PENDING,
        },
        problems=(409,),
    ),
)
async def remove_schedule(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """What it has submitted goes on; what waited is skipped."""
    wanted = _named(name)
    before = await doors.ask(GetSchedule(name=wanted))
    outcome = await _sent(doors, principal_of(request), RemoveSchedule(name=wanted))
    if outcome is None:
        return pending(f"/v1/schedules/{wanted}", wanted)
    return document(before, version=settled(outcome))


@get(
    "/schedules/{name:str}/receipts",
    says=Operation(
        summary="List a schedule's receipts",
        scope=READ,
        query=RECEIPTS_ASKED,
        headers=(AT_LEAST,),
        path={"name": _NAME},
        answers={200: Says(meaning="Receipts, newest first.", form=Page[Receipt])},
        problems=(409,),
    ),
)
async def list_receipts(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """One for each due time: fired, late, skipped and why, with the task; of a removed schedule, too."""
    wanted = _named(name)
    asked = RECEIPTS_ASKED.read(request)
    query = ListReceipts(
        name=wanted, cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request)
    )
    page: Page[Receipt] = await doors.ask(query)
    return document(page)


@post(
    "/schedules/{name:str}/run",
    status_code=201,
    says=Operation(
        summary="Run a schedule's task now",
        scope=WRITE,
        headers=(IDEMPOTENCY_KEY,),
        path={"name": _NAME},
        answers={
            201: Says(meaning="Its task is on its way.", form=Run, headers=("Location", "Hive-Version")),
            202: _PENDING,
        },
        problems=(409,),
    ),
)
async def run_schedule(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Whatever its times say, paused or not, and whether or not an earlier task runs."""
    wanted = _named(name)
    caller, key = principal_of(request), idempotency_key(request)
    task_id = TaskId(new_id() if key is None else derived_id("run", caller.key_id, wanted, key))
    location = f"/v1/tasks/{task_id}"
    outcome = await _sent(doors, caller, RunSchedule(name=wanted, task_id=task_id))
    if outcome is None:
        return pending(f"/v1/schedules/{wanted}", wanted)
    headers = {"Location": location}
    return document(Run(name=wanted, task_id=task_id), status=201, version=settled(outcome), headers=headers)


@post(
    "/schedules/{name:str}/pause",
    status_code=200,
    says=Operation(
        summary="Pause a schedule",
        scope=WRITE,
        path={"name": _NAME},
        answers={200: _SCHEDULE, 202: _PENDING},
        problems=(409,),
    ),
)
async def pause_schedule(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """It does not tick until it is resumed, and what it did not tick is never caught up."""
    wanted = _named(name)
    return await _decided(doors, principal_of(request), PauseSchedule(name=wanted), wanted)


@post(
    "/schedules/{name:str}/resume",
    status_code=200,
    says=Operation(
        summary="Resume a schedule",
        scope=WRITE,
        path={"name": _NAME},
        answers={200: _SCHEDULE, 202: _PENDING},
        problems=(409,),
    ),
)
async def resume_schedule(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """It ticks again, from now on."""
    wanted = _named(name)
    return await _decided(doors, principal_of(request), ResumeSchedule(name=wanted), wanted)


async def _decided(
    doors: Doors, caller: Principal, command: ScheduleCommand, name: ScheduleName, *, created: bool = False
) -> Response[bytes]:
    """The schedule once the command is decided."""
    location = f"/v1/schedules/{name}"
    outcome = await _sent(doors, caller, command)
    if outcome is None:
        return pending(location, name)
    version = settled(outcome)
    try:
        schedule = await doors.ask(GetSchedule(name=name, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(location, name, version=version, detail=_NOT_SHOWN_YET)
    if not created:
        return document(schedule, version=schedule.version)
    headers = {"Location": location}
    if isinstance(outcome, AlreadySo):
        headers[REPLAYED] = "true"
    return document(schedule, status=201, version=schedule.version, headers=headers)


async def _sent(doors: Doors, caller: Principal, command: ScheduleCommand) -> Outcome | None:
    """The outcome; a refusal about a field of the body names it."""
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if isinstance(outcome, Refused) and outcome.code in _FIELD_OF:
        detail = outcome.detail.partition(": ")[2]  # without the field's name: the pointer is that
        wrong = Wrong(detail=detail, pointer=_FIELD_OF[outcome.code])
        raise Refusal(422, outcome.code, outcome.detail, errors=(wrong,))
    return outcome


def _plan(asked: SchedulePlan) -> SchedulePlan:
    return SchedulePlan(**{field: getattr(asked, field) for field in SchedulePlan.__struct_fields__})


def _named(text: str) -> ScheduleName:
    try:
        msgspec.convert(text, Annotated[str, msgspec.Meta(pattern=SCHEDULE_NAME_PATTERN)])
    except msgspec.ValidationError as error:
        raise NotFound("schedule_not_found", "no schedule has such a name") from error
    return ScheduleName(text)


ROUTES: Final = (
    list_schedules,
    add_schedule,
    show_schedule,
    change_schedule,
    remove_schedule,
    list_receipts,
    run_schedule,
    pause_schedule,
    resume_schedule,
)
