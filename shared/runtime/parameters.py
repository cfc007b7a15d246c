"""Reads query parameters and request headers: strictly, as typed values."""

import re
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.types import Scope

from shared.runtime.bodies import pointed
from shared.runtime.problems import Refusal, Wrong

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

FIELDS_MAX: Final = 50
_NUMBER: Final = re.compile(r"[+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?")
KEY_CHARS_MAX: Final = 200

VERSION: Final = "Hive-Version"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
LAST_EVENT_ID: Final = "Last-Event-ID"
PREFER: Final = "Prefer"


class Parameters(Generic[T]):
    """The query parameters of one kind of request: the fields of a Struct, each given at most once."""

    def __init__(self, form: type[T]) -> None:
        self.form = form
        fields = msgspec.structs.fields(form)
        self._none = None if any(field.required for field in fields) else form()
        self._moments = {field.encode_name for field in fields if _is_moment(field.type)}

    def read(self, request: Request[Any, Any, Any]) -> T:
        """Their values."""
        return self.of(request.scope)

    def of(self, scope: Scope) -> T:
        """Their values, in the scope of a request or of a WebSocket."""
        text: bytes = scope["query_string"]
        return self._decoded(text) if text or self._none is None else self._none

    def _decoded(self, text: bytes) -> T:
        try:
            pairs = parse_qsl(
                text.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
            )
        except ValueError as error:
            raise Refusal(400, "malformed_query", f"The query cannot be read: {error}") from error
        values = dict(pairs)
        if len(values) != len(pairs):
            raise Refusal(400, "invalid_query", "A query parameter is given twice.")
        for name in self._moments & values.keys():
            if _NUMBER.fullmatch(values[name]):  # msgspec would take it for seconds since 1970
                detail = "Expected a moment as in RFC 3339, such as 2026-01-31T12:00:00Z."
                raise Refusal(
                    400,
                    "invalid_query",
                    f"{name}: {detail}",
                    errors=(Wrong(detail=detail, parameter=name),),
                )
        try:
            return msgspec.convert(values, self.form, strict=False)
        except msgspec.ValidationError as error:
            wrong = pointed(str(error))
            name = (wrong.pointer or "").removeprefix("/")
            raise Refusal(
                400,
                "invalid_query",
                f"{name or 'query'}: {wrong.detail}",
                errors=(Wrong(detail=wrong.detail, parameter=name),),
            ) from error


def _is_moment(kind: Any) -> bool:
    """Whether a field may hold a moment."""
    return kind is datetime or any(map(_is_moment, get_args(kind)))


def given(value: V | msgspec.UnsetType) -> V | None:
    """A parameter's value; None where it was not given. A default of None would let `null` be given."""
    return None if isinstance(value, msgspec.UnsetType) else value


def idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    """The caller's name for this very request, if it has one."""
    value = request.headers.get(IDEMPOTENCY_KEY)
    if value is not None and not (
        0 < len(value) <= KEY_CHARS_MAX and value.isascii() and value.isprintable()
    ):
        raise _bad_header(IDEMPOTENCY_KEY, f"1 to {KEY_CHARS_MAX} printable ASCII characters")
    return value


def at_least(request: Request[Any, Any, Any]) -> int:
    """The sequence that the answer must have seen; 0 if any will do."""
    return _sequence(request, VERSION)


def last_event_id(request: Request[Any, Any, Any]) -> int:
    """The id after which a stream is to go on; 0 for its beginning."""
    return _sequence(request, LAST_EVENT_ID)


def wants_minimal(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller asks for a short answer (RFC 7240: `Prefer: return=minimal`)."""
    return "return=minimal" in request.headers.get(PREFER, "").replace(" ", "").lower()


def _sequence(request: Request[Any, Any, Any], header: str) -> int:
    value = request.headers.get(header)
    if value is None:
        return 0
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):  # noqa: PLR2004 - digits of a 64-bit number
        raise _bad_header(header, "a sequence: a whole number of 0 or more")
    return int(value)


def _bad_header(header: str, must_be: str) -> Refusal:
    detail = f"{header} must be {must_be}."
    return Refusal(400, "invalid_header", detail, errors=(Wrong(detail=detail, header=header),))
