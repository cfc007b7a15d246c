"""Reads request bodies: bounded, of the right type, strictly decoded; what is wrong is pointed at."""

import re
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from litestar import Request
from litestar.types import HTTPReceiveMessage
from typing_extensions import TypeForm

from shared.runtime.problems import Refusal, Wrong

T = TypeVar("T")

JSON: Final = "application/json"
BODY_BYTES_MAX: Final = 64_000

_PLACE = re.compile(r"^(?P<detail>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `(?P<name>.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


class Body(Generic[T]):
    """The body of one kind of request. `types`: the media types it may come in."""

    def __init__(
        self,
        form: TypeForm[T],
        *,
        bytes_max: int = BODY_BYTES_MAX,
        default: T | None = None,
        types: tuple[str, ...] = (JSON,),
    ) -> None:
        self.form = form
        self.bytes_max = bytes_max
        self.default = default
        self.types = types
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(form).decode

    async def read(self, request: Request[Any, Any, Any]) -> T:
        """The decoded body; `default` where one is given and nothing was sent."""
        data = await read(request, self.bytes_max)
        if not data and self.default is not None:
            return self.default
        media_type(request, self.types)
        return decoded(self._decode, data)


def media_type(request: Request[Any, Any, Any], allowed: tuple[str, ...]) -> str:
    """The media type of the body, if it is one of these and in UTF-8."""
    value = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in value.split(";"))
    charset = next((part[8:].strip('"') for part in parameters if part.startswith("charset=")), "utf-8")
    if kind not in allowed or charset not in {"utf-8", "utf8"}:
        raise Refusal(415, "unsupported_media_type", f"Send {' or '.join(allowed)} in UTF-8, not {value!r}.")
    return kind


async def read(request: Request[Any, Any, Any], bytes_max: int) -> bytes:
    """The bytes of the body, however they come, up to a limit."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    while True:
        message = cast("HTTPReceiveMessage", await request.receive())
        if message["type"] == "http.disconnect":
            raise Refusal(400, "body_incomplete", "The connection ended before the body did.")
        part = message["body"]
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def decoded(decode: Callable[[bytes], T], data: bytes | msgspec.Raw) -> T:
    """Strictly decoded JSON; a Refusal that points at what is wrong."""
    try:
        return decode(bytes(data))
    except msgspec.ValidationError as error:
        wrong = pointed(str(error))
        raise Refusal(
            400, "invalid_body", f"{wrong.pointer or 'body'}: {wrong.detail}", errors=(wrong,)
        ) from error
    except msgspec.DecodeError as error:
        raise Refusal(400, "malformed_json", str(error)) from error
    except UnicodeDecodeError as error:
        raise Refusal(
            400, "invalid_utf8", f"The body is not UTF-8: {error.reason}, byte {error.start}."
        ) from error
    except RecursionError as error:
        raise Refusal(400, "nested_too_deeply", "The body is nested too deeply.") from error


def pointed(message: str) -> Wrong:
    """A message of msgspec, its path as a JSON pointer: `$.items[0].name` is `/items/0/name`."""
    match = _PLACE.match(message)
    assert match is not None, message
    detail, path = match["detail"], match["path"] or ""
    steps = [step[0] or step[1] for step in _STEP.findall(path)]
    if field := _FIELD.search(detail):
        steps.append(field["name"])
    return Wrong(detail=detail, pointer="".join(f"/{_escaped(step)}" for step in steps))


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _too_large(bytes_max: int) -> Refusal:
    # What is still on its way is not read: the connection ends with the answer.
    return Refusal(
        413,
        "body_too_large",
        f"The body has more than {bytes_max:,} bytes.",
        headers={"Connection": "close"},
    )
