"""The dead letters of all services over HTTP."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath

from shared.contracts.dead import DeadLetter, DeadLetters, DropDead, GetDead, ListDead, ReplayDead
from shared.contracts.words import is_name
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import AlreadySo, Committed, Failed, Refused
from shared.runtime.answers import document
from shared.runtime.dead import place
from shared.runtime.doors import Doors, Seams, principal_of
from shared.runtime.openapi import Operation, Says
from shared.runtime.parameters import Parameters, given

DLQ_WRITE: Final = "dlq:write"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR: Final = r"^[0-9]{1,16}\.[A-Za-z0-9_-]{1,128}(?!\n)$"
"""The place of the last letter that was told: its moment in microseconds, and its id."""

REPLAY_WITHIN_S: Final = 10.0


class LettersAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters."""

    state: Literal["dead", "replayed", "dropped"] = "dead"
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, msgspec.Meta(pattern=CURSOR)] | msgspec.UnsetType = msgspec.UNSET


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters, newest first; `unavailable` names the services that did not answer."""

    items: list[DeadLetter]
    unavailable: list[str]
    next_cursor: str | None = None


LETTERS_ASKED: Final = Parameters(LettersAsked)
_LETTER: Final = {200: Says(meaning="The letter.", form=DeadLetter)}


@get(
    "/dlq",
    says=Operation(
        summary="List dead letters",
        scope=DLQ_WRITE,
        query=LETTERS_ASKED,
        answers={200: Says(meaning="Dead letters of all services, newest first.", form=LetterPage)},
    ),
)
async def list_letters(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """What could not be handled, and lies where a person can see it."""
    asked = LETTERS_ASKED.read(request)
    cursor = given(asked.cursor)
    query = ListDead(state=asked.state, limit=asked.limit, before=None if cursor is None else _place(cursor))
    async with asyncio.TaskGroup() as tasks:
        asking = {service: tasks.create_task(_list(doors, service, query)) for service in doors.services}
    answers = {service: task.result() for service, task in asking.items()}
    unavailable = [service for service, answer in answers.items() if answer is None]
    items, more = merged([answer for answer in answers.values() if answer is not None], asked.limit)
    return document(
        LetterPage(
            items=items, unavailable=unavailable, next_cursor=_cursor(items[-1]) if more and items else None
        )
    )


@get(
    "/dlq/{letter_id:str}",
    says=Operation(summary="Show a dead letter", scope=DLQ_WRITE, answers=_LETTER),
)
async def show_letter(doors: Seams, letter_id: FromPath[str]) -> Response[bytes]:
    """The command as it was stored, and why it could not be handled."""
    return document(await _find(doors, letter_id))


@post(
    "/dlq/{letter_id:str}/replay",
    status_code=200,
    says=Operation(
        summary="Replay a dead letter",
        scope=DLQ_WRITE,
        answers={
            200: Says(meaning="What was decided this time.", form=Committed | AlreadySo | Refused | Failed)
        },
        problems=(409,),
    ),
)
async def replay_letter(
    request: Request[Any, Any, Any], doors: Seams, letter_id: FromPath[str]
) -> Response[bytes]:
    """Decide it again now, as the sender it came from."""
    letter = await _find(doors, letter_id)
    query = ReplayDead(id=letter.id, actor=principal_of(request).actor)
    outcome = await doors.ask(query, service=letter.service, timeout_s=REPLAY_WITHIN_S)
    return document(outcome)


@post(
    "/dlq/{letter_id:str}/drop",
    status_code=200,
    says=Operation(summary="Drop a dead letter", scope=DLQ_WRITE, answers=_LETTER, problems=(409,)),
)
async def drop_letter(
    request: Request[Any, Any, Any], doors: Seams, letter_id: FromPath[str]
) -> Response[bytes]:
    """Give it up; it is kept as dropped until it is forgotten."""
    letter = await _find(doors, letter_id)
    query = DropDead(id=letter.id, actor=principal_of(request).actor)
    dropped = await doors.ask(query, service=letter.service)
    return document(dropped)


def merged(answers: Sequence[DeadLetters], limit: int) -> tuple[list[DeadLetter], bool]:
    """One page of several services' letters, and whether more follow.

    Where a service did not tell all, nobody's letters beyond its last one are told: its own come before them.
    """
    cut = [place(answer.items[-1]) for answer in answers if answer.items and _has_more(answer)]
    known = [
        letter for answer in answers for letter in answer.items if all(place(letter) >= last for last in cut)
    ]
    known.sort(key=place, reverse=True)
    told = sum(len(answer.items) for answer in answers)
    return known[:limit], bool(cut) or told > limit


def _has_more(answer: DeadLetters) -> bool:
    return answer.total is not None and answer.total > len(answer.items)


def _cursor(letter: DeadLetter) -> str:
    return f"{(letter.at - EPOCH) // timedelta(microseconds=1)}.{letter.id}"


def _place(cursor: str) -> tuple[datetime, str]:
    micros, _, letter_id = cursor.partition(".")
    return EPOCH + timedelta(microseconds=int(micros)), letter_id


async def _list(doors: Doors, service: str, query: ListDead) -> DeadLetters | None:
    try:
        return await doors.ask(query, service=service)
    except Unavailable:
        return None


async def _find(doors: Doors, letter_id: str) -> DeadLetter:
    """The letter, from the service that has it: ids are unique among all."""
    away: list[str] = []
    for service in doors.services if is_name(letter_id) else ():
        try:
            return await doors.ask(GetDead(id=letter_id), service=service)
        except NotFound:
            continue
        except Unavailable:
            away.append(service)
    if away:
        raise Unavailable(f"not found so far, but {', '.join(away)} did not answer")
    raise NotFound("dead_letter_not_found", f"no service has a dead letter {letter_id}")


ROUTES: Final = (list_letters, show_letter, replay_letter, drop_letter)
