"""Many tasks in one request: a JSON array, or JSON lines; each line has an outcome of its own."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, post

from services.orchestrator.api.requests import NewLine
from services.orchestrator.api.submitting import id_for, submission
from services.orchestrator.api.tasks import WRITE
from shared.contracts.words import BATCH_BYTES_MAX, BATCH_LINES_MAX, TaskId
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import AlreadySo, Outcome
from shared.runtime.answers import document, settled
from shared.runtime.bodies import JSON, Body, decoded, media_type, read
from shared.runtime.commands import Sending
from shared.runtime.doors import Doors, Principal, Seams, principal_of
from shared.runtime.openapi import IDEMPOTENCY_KEY, Operation, Says
from shared.runtime.parameters import idempotency_key
from shared.runtime.problems import RETRY_AFTER_S, Problem, Refusal, refusal_of

JSON_LINES: Final = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")
SENT_AT_ONCE: Final = 256
WAVES: Final = 4  # of so many at once: while one waits for its outcomes, another one is published

BATCH: Final = Body(list[NewLine], bytes_max=BATCH_BYTES_MAX, types=(JSON, *JSON_LINES))
_LINES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_LINE: Final = msgspec.json.Decoder(NewLine)


class LineOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a line, as if it had come alone: 201, 202 (ask at /v1/tasks/{id}), or a problem."""

    line: int
    status: int
    id: TaskId | None = None
    version: int | None = None
    replayed: bool = False
    problem: Problem | None = None
    retry_after_s: int | None = None


class BatchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each line, in order, and how many were taken (201 or 202) and refused."""

    items: list[LineOutcome]
    accepted: int
    refused: int


class _Line(msgspec.Struct):
    number: int
    sending: Sending
    task_id: TaskId


@post(
    "/tasks/batch",
    status_code=200,
    says=Operation(
        summary="Submit many tasks",
        scope=WRITE,
        body=BATCH,
        headers=(IDEMPOTENCY_KEY,),
        answers={200: Says(meaning="An outcome for each line, in order.", form=BatchOutcome)},
    ),
)
async def submit_batch(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """A line without its own idempotency key has the batch's key and its number, counted from 1."""
    kind = media_type(request, BATCH.types)
    lines = list(_lines(kind, await read(request, BATCH_BYTES_MAX)))
    if len(lines) > BATCH_LINES_MAX:
        raise Refusal(413, "too_many_lines", f"A batch has at most {BATCH_LINES_MAX:,} lines.")
    batch_key = idempotency_key(request)
    caller = principal_of(request)
    waves = asyncio.Semaphore(WAVES)
    async with asyncio.TaskGroup() as tasks:
        sent = [
            tasks.create_task(_wave(doors, caller, batch_key, lines[start : start + SENT_AT_ONCE], waves))
            for start in range(0, len(lines), SENT_AT_ONCE)
        ]
    items = [outcome for wave in sent for outcome in wave.result()]
    accepted = sum(item.problem is None for item in items)
    return document(BatchOutcome(items=items, accepted=accepted, refused=len(items) - accepted))


def _lines(kind: str, body: bytes) -> Iterator[tuple[int, bytes | msgspec.Raw]]:
    """The lines with their numbers; blank lines are counted, but are none."""
    if kind == JSON:
        yield from enumerate(decoded(_LINES.decode, body), start=1)
    else:
        yield from ((number, line) for number, line in enumerate(body.split(b"\n"), start=1) if line.strip())


async def _wave(
    doors: Doors,
    caller: Principal,
    batch_key: str | None,
    lines: Sequence[tuple[int, bytes | msgspec.Raw]],
    waves: asyncio.Semaphore,
) -> list[LineOutcome]:
    async with waves:
        read_lines = [await _read(doors, caller, batch_key, number, line) for number, line in lines]
        ready = [line for line in read_lines if isinstance(line, _Line)]
        wait_s = doors.config().answer_wait_s
        results = iter(
            await doors.send.many([line.sending for line in ready], wait_s=wait_s) if ready else []
        )
        return [_told(line, next(results)) if isinstance(line, _Line) else line for line in read_lines]


async def _read(
    doors: Doors, caller: Principal, batch_key: str | None, number: int, line: bytes | msgspec.Raw
) -> _Line | LineOutcome:
    try:
        asked = decoded(_LINE.decode, line)
        if asked.idempotency_key is not None:
            task_id = id_for(caller, asked.idempotency_key)
        else:
            task_id = id_for(caller) if batch_key is None else id_for(caller, batch_key, str(number))
        command = await submission(doors, caller, task_id, asked)
    except (Refusal, Rejected, NotFound, Behind, Unavailable) as error:
        return _refused(number, error)
    return _Line(number, Sending(command=command, actor=caller.actor), task_id)


def _told(line: _Line, outcome: Outcome | Unavailable | None) -> LineOutcome:
    if outcome is None:
        return LineOutcome(line=line.number, status=202, id=line.task_id)
    if isinstance(outcome, Unavailable):
        return _refused(line.number, outcome)
    try:
        version = settled(outcome)
    except (Rejected, Refusal) as error:
        return _refused(line.number, error, line.task_id)
    return LineOutcome(
        line=line.number,
        status=201,
        id=line.task_id,
        version=version,
        replayed=isinstance(outcome, AlreadySo),
    )


def _refused(number: int, error: Exception, task_id: TaskId | None = None) -> LineOutcome:
    refusal = refusal_of(error)
    again = RETRY_AFTER_S if "Retry-After" in refusal.headers else None
    return LineOutcome(
        line=number, status=refusal.problem.status, id=task_id, problem=refusal.problem, retry_after_s=again
    )


ROUTES: Final = (submit_batch,)
