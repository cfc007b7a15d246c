"""A task's output as it appears, over a WebSocket: what the stream of events tells, as frames."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from services.orchestrator.api.looking import task_named
from services.orchestrator.api.stream import Told, follow_task
from services.orchestrator.api.tasks import READ
from shared.contracts.orchestrator.queries import GetTask, TaskDoc
from shared.kernel.errors import Behind
from shared.runtime.doors import Doors
from shared.runtime.live import Gap, Piece
from shared.runtime.looking import found
from shared.runtime.parameters import Parameters
from shared.runtime.sockets import SocketRoute
from shared.runtime.websocket import Frame, Socket


class After(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sequence of the last chunk that was seen."""

    after: Annotated[int, msgspec.Meta(ge=0, le=10**18 - 1)] = 0


class Chunk(Frame, frozen=True, kw_only=True, tag="chunk"):
    """A piece of output; `after=<sequence>` goes on behind it. `token` is the attempt's."""

    sequence: int
    token: int
    index: int
    text: str
    channel: str


class Missing(Frame, frozen=True, kw_only=True, tag="gap"):
    """Some output can no longer be had here; the result has it. `missing`: chunks, where that is known."""

    after: int
    before: int
    missing: int | None = None


class End(Frame, frozen=True, kw_only=True, tag="end"):
    """The task has ended."""

    task: TaskDoc


class _Chunk(msgspec.Struct):
    token: int
    index: int
    text: str
    channel: str = "out"


AFTER: Final = Parameters(After)
_chunk: Final = msgspec.json.Decoder(_Chunk)


async def show_live(socket: Socket, doors: Doors, path: Mapping[str, str]) -> None:
    """Until the task has ended, or the client leaves."""
    wanted = task_named(path["task_id"])
    after = AFTER.of(socket.scope).after
    task = await found(doors, GetTask(task_id=wanted), "task", wanted)
    if not isinstance(task, TaskDoc):
        raise Behind("the task is stored, and not decided yet: ask again")
    await socket.accept()

    async def tell(told: Told) -> None:
        if isinstance(told, Piece):
            socket.resume = f"?after={told.sequence}"
        await socket.send(_frame(told))

    socket.resume = f"?after={after}"
    await socket.listening(follow_task(doors, wanted, after, tell))


def _frame(told: Told) -> Frame:
    match told:
        case Piece():
            chunk = _chunk.decode(told.data)
            return Chunk(
                sequence=told.sequence,
                token=chunk.token,
                index=chunk.index,
                text=chunk.text,
                channel=chunk.channel,
            )
        case Gap():
            return Missing(after=told.after, before=told.before, missing=told.missing)
        case TaskDoc():
            return End(task=told)


SOCKETS: Final = (SocketRoute("/v1/tasks/{task_id}/ws", READ, show_live),)
