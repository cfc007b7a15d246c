"""What an HTTP caller is told when something is wrong: problem documents (RFC 9457) with codes."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from shared.kernel.codec import encode
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.runtime.commands import QueueFull

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
INBOX_RETRY_AFTER_S: Final = 5  # as long as a bot may need to read some of a full inbox
KEY_REUSED: Final = "idempotency_key_reused"

_STATUS_OF: Final = {KEY_REUSED: 422, "recipient_unknown": 404, "sender_unknown": 404}

_log = logging.getLogger(__name__)


class Wrong(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: in the body (`pointer`, RFC 6901), in a query parameter, or in a header."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered as asked. `code` is for programs, `detail` for people."""

    title: str
    status: int
    code: str
    detail: str
    errors: tuple[Wrong, ...] = ()
    dead_letter: str | None = None


class QueueBusy(QueueFull):
    """The queue takes nothing of this priority now. Nothing was stored; ask again later."""


class Refusal(Exception):
    """A request that is answered with a problem document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[Wrong, ...] = (),
        headers: Mapping[str, str] | None = None,
        dead_letter: str | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.headers = dict(headers or {})
        self.problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            code=code,
            detail=detail,
            errors=errors,
            dead_letter=dead_letter,
        )


def refusal_of(error: Exception) -> Refusal:
    """What a caller is told about an error; an unknown one is ours, and says nothing of itself."""
    match error:
        case Refusal():
            return error
        case Rejected(code="inbox_full"):
            return _later(429, error.code, error.detail, INBOX_RETRY_AFTER_S)
        case Rejected():
            return Refusal(_status_of(error.code), error.code, error.detail)
        case NotFound():
            return Refusal(404, error.code, error.detail)
        case Behind():
            return _later(409, "behind", str(error))
        case QueueBusy():
            return _later(429, "queue_busy", str(error))
        case QueueFull():
            return _later(503, "queue_full", str(error))
        case Unavailable():
            return _later(503, "unavailable", str(error))
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("'", "")
            return Refusal(error.status_code, code, error.detail, headers=error.headers)
        case _:
            return Refusal(500, "internal", "Something went wrong here; the log of the gateway has it.")


def response_of(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The problem document as an answer: Litestar's exception handler."""
    refusal = refusal_of(error)
    if refusal.problem.code == "internal":
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response(
        encode(refusal.problem),
        status_code=refusal.problem.status,
        media_type=PROBLEM_JSON,
        headers=refusal.headers,
    )


def _status_of(code: str) -> int:
    if code in _STATUS_OF:
        return _STATUS_OF[code]
    if code.startswith("bad_"):
        return 400
    return 404 if code.endswith("_not_found") else 409


def _later(status: int, code: str, detail: str, after_s: int = RETRY_AFTER_S) -> Refusal:
    return Refusal(status, code, detail, headers={"Retry-After": str(after_s)})
