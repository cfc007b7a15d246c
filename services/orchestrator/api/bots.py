"""Bots over HTTP: launch, list, look at, stop, start, restart, retire; and what they did."""

import asyncio
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from services.orchestrator.api.looking import ANSWER_S, bot_named
from services.orchestrator.api.requests import BotsAsked, CircuitAsked, HistoryAsked, NewBot, UpWaited
from shared.contracts.orchestrator.commands import (
    BotCommand,
    CloseCircuit,
    LaunchBot,
    OpenCircuit,
    RestartBot,
    RetireBot,
    StartBot,
    StopBot,
)
from shared.contracts.orchestrator.queries import BotDoc, GetBot, GetBotHistory, HistoryEntry, ListBots
from shared.contracts.words import BotId, Page
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import AlreadySo
from shared.runtime.answers import Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Doors, Principal, Seams, principal_of
from shared.runtime.looking import found
from shared.runtime.openapi import AT_LEAST, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given
from shared.runtime.problems import Problem, Refusal, refusal_of

READ: Final = "bots:read"
WRITE: Final = "bots:write"
BOT_BYTES_MAX: Final = 500_000
ACCEPTED: Final = 202
NOT_UP_YET: Final = frozenset({"starting", "restarting"})
BROKEN: Final = "broken"

NEW_BOT: Final = Body(NewBot, bytes_max=BOT_BYTES_MAX)
CIRCUIT_ASKED: Final = Body(CircuitAsked)
BOTS_ASKED: Final = Parameters(BotsAsked)
HISTORY_ASKED: Final = Parameters(HistoryAsked)
WAITED: Final = Parameters(UpWaited)

_BOT: Final = Says(meaning="The bot.", form=BotDoc, headers=("Hive-Version",))
_PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


class Launched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One bot of many: as if it had been launched alone."""

    name: BotId
    status: int
    bot: BotDoc | None = None
    problem: Problem | None = None


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The bots that were asked for, in order."""

    items: list[Launched]


@post(
    "/bots",
    says=Operation(
        summary="Launch a bot, or many alike",
        scope=WRITE,
        body=NEW_BOT,
        query=WAITED,
        answers={
            200: Says(
                meaning="Such a bot is there already; or, with a `count`, what became of each.",
                form=BotDoc,
                or_form=Fleet,
                headers=("Hive-Version",),
            ),
            201: Says(meaning="The bot lives.", form=BotDoc, headers=("Location", "Hive-Version")),
            202: Says(
                meaning="It is on its way: not decided yet, or not up yet.",
                form=Pending,
                or_form=BotDoc,
                headers=("Location", "Retry-After", "Hive-Version"),
            ),
        },
        problems=(409,),
    ),
)
async def launch_bot(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Waits until the bot lives, or cannot (409 `launch_failed`), at most `wait` seconds."""
    asked = await NEW_BOT.read(request)
    wait_s = WAITED.read(request).wait
    caller = principal_of(request)
    spec = asked.spec()
    if asked.count == 1:
        launched = await _launch(doors, caller, LaunchBot(bot_id=BotId(asked.name), spec=spec), wait_s)
        location = f"/v1/bots/{launched.name}"
        if launched.bot is None:
            return pending(location, launched.name)
        headers = {"Location": location} | ({"Retry-After": "1"} if launched.status == ACCEPTED else {})
        return document(launched.bot, status=launched.status, version=launched.bot.version, headers=headers)
    async with asyncio.TaskGroup() as tasks:
        launching = [
            tasks.create_task(_launch_one(doors, caller, LaunchBot(bot_id=name, spec=spec), wait_s))
            for name in asked.names()
        ]
    return document(Fleet(items=[task.result() for task in launching]))


@get(
    "/bots",
    says=Operation(
        summary="List bots",
        scope=READ,
        query=BOTS_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="Bots, by name.", form=Page[BotDoc])},
        problems=(409,),
    ),
)
async def list_bots(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Those that were retired only with `retired=true`."""
    asked = BOTS_ASKED.read(request)
    page = await doors.ask(
        ListBots(
            retired=asked.retired,
            pool=given(asked.pool),
            cursor=given(asked.cursor),
            limit=asked.limit,
            at_least=at_least(request),
        )
    )
    return document(page)


@get(
    "/bots/{name:str}",
    says=Operation(
        summary="Show a bot",
        scope=READ,
        headers=(AT_LEAST,),
        answers={200: _BOT, 202: _PENDING},
        problems=(409,),
    ),
)
async def show_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Its state, what it does, and what it uses."""
    wanted = bot_named(name)
    bot = await found(doors, GetBot(bot_id=wanted, at_least=at_least(request)), "bot", wanted)
    return bot if isinstance(bot, Response) else document(bot, version=bot.version)


@get(
    "/bots/{name:str}/history",
    says=Operation(
        summary="Show what a bot did",
        scope=READ,
        query=HISTORY_ASKED,
        answers={200: Says(meaning="Its attempts, newest first.", form=Page[HistoryEntry]), 202: _PENDING},
    ),
)
async def show_history(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Kept when it is stopped, restarted or retired."""
    wanted = bot_named(name)
    asked = HISTORY_ASKED.read(request)
    query = GetBotHistory(bot_id=wanted, cursor=given(asked.cursor), limit=asked.limit)
    page = await found(doors, query, "bot", wanted)
    return page if isinstance(page, Response) else document(page)


def _change(summary: str) -> Operation:
    return Operation(
        summary=summary,
        scope=WRITE,
        query=WAITED,
        answers={200: _BOT, 202: _PENDING},
        problems=(409,),
    )


@post("/bots/{name:str}/stop", status_code=200, says=_change("Stop a bot"))
async def stop_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """It ends what it does, and takes nothing new. Waits, at most `wait` seconds, until it is gone."""
    return await _changed(request, doors, StopBot(bot_id=bot_named(name)), gone=True)


@post("/bots/{name:str}/start", status_code=200, says=_change("Start a bot"))
async def start_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """A stopped or broken bot runs again, as it was launched. Waits until it is up."""
    return await _changed(request, doors, StartBot(bot_id=bot_named(name)), gone=False)


@post("/bots/{name:str}/restart", status_code=200, says=_change("Restart a bot"))
async def restart_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """A new process for it; what it holds is given elsewhere. Waits until it is up."""
    return await _changed(request, doors, RestartBot(bot_id=bot_named(name)), gone=False)


@delete("/bots/{name:str}", status_code=200, says=_change("Retire a bot"))
async def retire_bot(request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]) -> Response[bytes]:
    """Gone for good: its broker user is revoked, its history stays. Waits until its process is gone."""
    return await _changed(request, doors, RetireBot(bot_id=bot_named(name)), gone=True)


@post(
    "/bots/{name:str}/circuit",
    status_code=200,
    says=Operation(
        summary="Open or close a bot's circuit",
        scope=WRITE,
        body=CIRCUIT_ASKED,
        answers={200: _BOT, 202: _PENDING},
        problems=(409,),
    ),
)
async def change_circuit(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """An open one is given nothing for so long, then one task at a time; a closed one is like any other."""
    asked = await CIRCUIT_ASKED.read(request)
    bot_id = bot_named(name)
    command: BotCommand = CloseCircuit(bot_id=bot_id, reason=asked.reason)
    if asked.state == "open":
        for_s = doors.config().circuit_open_s if asked.for_s is None else asked.for_s
        command = OpenCircuit(bot_id=bot_id, for_s=for_s, reason=asked.reason)
    actor = principal_of(request).actor
    outcome = await doors.send(command, actor=actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(f"/v1/bots/{bot_id}", bot_id)
    bot = await _after(doors, bot_id, settled(outcome), 0.0, gone=False)
    if bot is None:
        return pending(f"/v1/bots/{bot_id}", bot_id, version=settled(outcome))
    return document(bot, version=bot.version)


async def _changed(
    request: Request[Any, Any, Any], doors: Doors, command: BotCommand, *, gone: bool
) -> Response[bytes]:
    wait_s = WAITED.read(request).wait
    bot_id = BotId(command.key)
    actor = principal_of(request).actor
    outcome = await doors.send(command, actor=actor, wait_s=doors.config().answer_wait_s)
    location = f"/v1/bots/{bot_id}"
    if outcome is None:
        return pending(location, bot_id)
    version = settled(outcome)
    bot = await _after(doors, bot_id, version, wait_s, gone=gone)
    if bot is None:
        return pending(location, bot_id, version=version)
    return document(bot, version=bot.version)


async def _launch(doors: Doors, caller: Principal, command: LaunchBot, wait_s: float) -> Launched:
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return Launched(name=command.bot_id, status=ACCEPTED)
    bot = await _after(doors, command.bot_id, settled(outcome), wait_s, gone=False)
    if bot is None or bot.state in NOT_UP_YET:
        return Launched(name=command.bot_id, status=ACCEPTED, bot=bot)
    if bot.state == BROKEN:
        raise Refusal(409, "launch_failed", f"{bot.name} cannot run: {bot.reason}")
    return Launched(name=bot.name, status=200 if isinstance(outcome, AlreadySo) else 201, bot=bot)


async def _launch_one(doors: Doors, caller: Principal, command: LaunchBot, wait_s: float) -> Launched:
    """One of many: what is wrong with it does not end the others."""
    try:
        return await _launch(doors, caller, command, wait_s)
    except (Refusal, Rejected, NotFound, Behind, Unavailable) as error:
        problem = refusal_of(error).problem
        return Launched(name=command.bot_id, status=problem.status, problem=problem)


async def _after(doors: Doors, bot_id: BotId, version: int, wait_s: float, *, gone: bool) -> BotDoc | None:
    """The bot once it is up, or gone, or as it is when the wait is over; None if no view shows it yet."""
    now = GetBot(bot_id=bot_id, at_least=version)
    later = msgspec.structs.replace(now, **{"wait_gone_s" if gone else "wait_up_s": wait_s})
    try:
        async with doors.patience.wait():
            bot = await doors.ask(later, timeout_s=wait_s + ANSWER_S)
            return bot  # noqa: RET504 - what is asked tells its type
        return await doors.ask(now)
    except (Behind, NotFound, Unavailable):
        return None


ROUTES: Final = (
    launch_bot,
    list_bots,
    show_bot,
    show_history,
    stop_bot,
    start_bot,
    restart_bot,
    retire_bot,
    change_circuit,
)
