"""One WebSocket: typed JSON frames both ways; who reads nothing or sends nonsense is told why, and out."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, TypeVar

import msgspec
from litestar.types import Receive, Scope
from litestar.types import Send as Reply

from shared.kernel.codec import encode
from shared.runtime.bodies import decoded
from shared.runtime.doors import Principal
from shared.runtime.problems import Refusal

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)

SEND_WITHIN_S: Final = 10.0  # so long a client may leave what it is sent lying
WRONG_IN_A_ROW_MAX: Final = 10
REF_CHARS_MAX: Final = 200
REASON_BYTES_MAX: Final = 120  # a close frame holds 123

DONE: Final = 1000
NONSENSE: Final = 1008
BROKEN: Final = 1011
MOVED: Final = 1012
AGAIN_LATER: Final = 1013
NO_MORE_ACCESS: Final = 4401
TOO_SLOW: Final = 4408


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What is sent to a client: tolerant readers skip what they do not know."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """What a client sends: read strictly."""


class Ping(Asked, frozen=True, kw_only=True, tag="ping"):
    """Are you there?"""


class Pong(Frame, frozen=True, kw_only=True, tag="pong"):
    """Yes."""


class Wrong(Frame, frozen=True, kw_only=True, tag="error"):
    """A frame was not obeyed. `pointer` names its field, `ref` is that of the frame, where they are known."""

    code: str
    detail: str
    ref: str | None = None
    pointer: str | None = None
    retry_after_s: int | None = None


class Ended(Exception):
    """The connection is to be closed by us, and the client told why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Left(Exception):
    """The client has gone."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who was let in. `closed`: why no longer, if so. `full`: seconds until it may send again, if not now."""

    principal: Principal
    closed: Callable[[], Refusal | None]
    full: Callable[[], int | None]


class _Ref(msgspec.Struct):
    ref: str | None = None


_ref = msgspec.json.Decoder(_Ref)


class Decode(Protocol[F_co]):
    """Decoder of the frames that a kind of socket understands; `Ping` is answered before that."""

    def decode(self, data: bytes, /) -> F_co:
        """The frame."""
        ...


class Socket:
    """One connection: refused or accepted, then frames until one side ends it.

    Nothing is queued here: to send is to wait until the client has read enough of what was sent before.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Reply, admission: Admission) -> None:
        self.scope = scope
        self.admission = admission
        self.accepted = False
        self.reply = send
        self.resume = ""
        """How the client goes on elsewhere, as a query."""
        self.ending: Ended | None = None
        self._receive = receive
        self._wrong = 0
        self._until: asyncio.Timeout | None = None

    @property
    def principal(self) -> Principal:
        """Who is calling."""
        return self.admission.principal

    async def accept(self) -> None:
        """Let it in."""
        message: Any = await self._receive()
        if message["type"] != "websocket.connect":
            raise Left
        await self.reply({"type": "websocket.accept", "subprotocol": None, "headers": []})
        self.accepted = True

    async def send(self, frame: Frame) -> None:
        """Send a frame; a client that does not read is shown out."""
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await self.reply({"type": "websocket.send", "text": encode(frame).decode(), "bytes": None})
        except TimeoutError:
            raise Ended(TOO_SLOW, f"too slow: nothing was read for {SEND_WITHIN_S:g} s") from None
        except OSError as gone:
            raise Left from gone

    async def read(self, frames: Decode[F | Ping]) -> F:
        """The next frame. What cannot be read is answered with an error; too much of it ends it all."""
        while True:
            message: Any = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise Left
            text = message.get("text")
            if (after_s := self.admission.full()) is not None:
                limited = "This key may send no more now."
                await self._refuse(
                    Wrong(code="rate_limited", detail=limited, ref=_ref_of(text), retry_after_s=after_s)
                )
                continue
            try:
                frame = _decoded(frames, text)
            except Refusal as refusal:
                pointer = next((each.pointer for each in refusal.problem.errors), None)
                await self._refuse(
                    Wrong(
                        code=_CODES.get(refusal.problem.code, refusal.problem.code),
                        detail=refusal.problem.detail,
                        ref=_ref_of(text),
                        pointer=pointer,
                    )
                )
                continue
            self._wrong = 0
            if isinstance(frame, Ping):
                await self.send(Pong())
            else:
                return frame

    async def listening(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work, and hear meanwhile: pings are answered, and who leaves ends it."""
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(self._hear_pings())
            await work
            hearing.cancel()

    async def _hear_pings(self) -> NoReturn:
        while True:
            await self.read(_PINGS)

    def end(self, code: int, reason: str) -> None:
        """Close it soon, whatever it does just now."""
        if self.ending is None:
            self.ending = Ended(code, reason)
            if self._until is not None:
                self._until.reschedule(asyncio.get_running_loop().time())

    async def serve(self, talk: Callable[[], Any]) -> None:
        """Run what is said on it; `end` breaks that off."""
        try:
            async with asyncio.timeout(None) as self._until:
                await talk()
        except TimeoutError:
            if self.ending is None:
                raise
        finally:
            self._until = None
        if self.ending is not None:
            raise self.ending

    async def close(self, code: int, reason: str) -> None:
        """Tell the client why, and close."""
        cut = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        with suppress(OSError):
            await self.reply({"type": "websocket.close", "code": code, "reason": cut})

    async def _refuse(self, wrong: Wrong) -> None:
        self._wrong += 1
        await self.send(wrong)
        if self._wrong >= WRONG_IN_A_ROW_MAX:
            raise Ended(NONSENSE, f"{self._wrong} frames in a row could not be obeyed")


_PINGS: Final[msgspec.json.Decoder[Ping]] = msgspec.json.Decoder(Ping)
_CODES: Final = {"invalid_body": "invalid_frame"}


def _decoded(frames: Decode[F], text: str | None) -> F:
    if text is None:
        raise Refusal(400, "binary_frame", "Frames are JSON objects in text, not binary.")
    return decoded(frames.decode, text.encode())


def _ref_of(text: str | None) -> str | None:
    """The reference in a frame that could not be read otherwise."""
    try:
        ref = _ref.decode(text or "null").ref
    except (msgspec.MsgspecError, RecursionError):
        return None
    return ref if ref is None or len(ref) <= REF_CHARS_MAX else None
