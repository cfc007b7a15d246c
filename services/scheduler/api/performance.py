"""What is known of bots, over HTTP: recommendations, performance, its reset and its export."""

import csv
from collections.abc import AsyncIterator, Callable, Sequence
from io import StringIO
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from shared.contracts.scheduler.commands import ResetPerformance
from shared.contracts.scheduler.queries import (
    BotPerformance,
    GetBotPerformance,
    GetRecommendations,
    GetTypePerformance,
    ListPerformance,
    Performance,
    Recommendations,
    TypePerformance,
)
from shared.contracts.words import BotId, Page, TaskType, is_name
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound
from shared.runtime.answers import Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Doors, Seams, principal_of
from shared.runtime.openapi import AT_LEAST, Operation, Says
from shared.runtime.parameters import Parameters, at_least

READ: Final = "bots:read"
WRITE: Final = "bots:write"
PAGE: Final = 500
JSONL: Final = "application/jsonl"
CSV: Final = "text/csv"

Encode = Callable[[Sequence[Performance]], bytes]


class TypeAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which type of task."""

    type: TaskType


class ExportAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In which form."""

    format: Literal["jsonl", "csv"] = "jsonl"


class Forget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to forget: of one type of task, or of all."""

    type: TaskType | None = None


TYPE_ASKED: Final = Parameters(TypeAsked)
EXPORT_ASKED: Final = Parameters(ExportAsked)
FORGET: Final = Body(Forget, default=Forget())
TYPE_IN_PATH: Final[dict[str, Any]] = {"type": "string", "enum": [kind.value for kind in TaskType]}
_PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


@get(
    "/recommendations",
    says=Operation(
        summary="Say which bots are best at a type of task",
        scope=READ,
        query=TYPE_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="The best first, with reasons; and the others.", form=Recommendations)},
        problems=(409,),
    ),
)
async def recommend(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Ranked by the policy in force. What is published for the orchestrator is the same."""
    kind = TYPE_ASKED.read(request).type
    found = await doors.ask(GetRecommendations(type=kind, at_least=at_least(request)))
    return document(found)


@get(
    "/bots/{name:str}/performance",
    says=Operation(
        summary="Show how good a bot is",
        scope=READ,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="What is known of it, by type of task.", form=BotPerformance)},
        problems=(409,),
    ),
)
async def show_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Kept when it is stopped, restarted or retired."""
    known = await doors.ask(GetBotPerformance(bot_id=_named(name), at_least=at_least(request)))
    return document(known)


@get(
    "/task-types/{kind:str}/performance",
    says=Operation(
        summary="Show how tasks of a type go",
        scope=READ,
        headers=(AT_LEAST,),
        path={"kind": TYPE_IN_PATH},
        answers={200: Says(meaning="Its run times, and its bots.", form=TypePerformance)},
        problems=(409,),
    ),
)
async def show_type(request: Request[Any, Any, Any], doors: Seams, kind: FromPath[str]) -> Response[bytes]:
    """How long the last ones ran, and what is known of each bot."""
    try:
        wanted = TaskType(kind)
    except ValueError as error:
        raise NotFound("type_not_found", f"the types are {', '.join(TaskType)}") from error
    known = await doors.ask(GetTypePerformance(type=wanted, at_least=at_least(request)))
    return document(known)


@post(
    "/bots/{name:str}/performance/reset",
    status_code=200,
    says=Operation(
        summary="Forget how good a bot is",
        scope=WRITE,
        body=FORGET,
        answers={
            200: Says(meaning="What is known of it now.", form=BotPerformance, headers=("Hive-Version",)),
            202: _PENDING,
        },
        problems=(409,),
    ),
)
async def reset(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """It counts as average until enough of its tasks have ended anew."""
    bot, asked, caller = _named(name), await FORGET.read(request), principal_of(request)
    await doors.ask(GetBotPerformance(bot_id=bot))
    wish = ResetPerformance(bot_id=bot, type=asked.type)
    outcome = await doors.send(wish, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(f"/v1/bots/{bot}/performance", bot)
    version = settled(outcome)
    try:
        known = await doors.ask(GetBotPerformance(bot_id=bot, at_least=version))
    except NotFound:  # it is retired, and nothing is left of it
        known = BotPerformance(bot=bot, types=())
    return document(known, version=version)


@get(
    "/performance/export",
    says=Operation(
        summary="Export all that is known of bots",
        scope=READ,
        query=EXPORT_ASKED,
        answers={
            200: Says(meaning="A line for each bot and type of task.", media_type=JSONL, or_media_type=CSV)
        },
    ),
)
async def export(request: Request[Any, Any, Any], doors: Seams) -> Stream:
    """As JSON lines, or with `format=csv` as CSV with a header."""
    encoded, media_type = (_csv, CSV) if EXPORT_ASKED.read(request).format == "csv" else (_jsonl, JSONL)
    first = await doors.ask(ListPerformance(limit=PAGE))
    head = _header() if media_type is CSV else b""
    return Stream(_pages(doors, first, head, encoded), media_type=media_type)


async def _pages(doors: Doors, page: Page[Performance], head: bytes, encoded: Encode) -> AsyncIterator[bytes]:
    yield head + encoded(page.items)
    while page.next_cursor is not None:
        page = await doors.ask(ListPerformance(cursor=page.next_cursor, limit=PAGE))
        yield encoded(page.items)


def _jsonl(items: Sequence[Performance]) -> bytes:
    return b"".join(encode(item) + b"\n" for item in items)


def _csv(items: Sequence[Performance]) -> bytes:
    return _lines([[msgspec.to_builtins(value) for value in msgspec.structs.astuple(item)] for item in items])


def _header() -> bytes:
    return _lines([list(Performance.__struct_fields__)])


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _named(name: str) -> BotId:
    if not is_name(name):
        raise NotFound("bot_not_found", "there is no such bot")
    return BotId(name)


ROUTES: Final = (recommend, show_bot, show_type, reset, export)
