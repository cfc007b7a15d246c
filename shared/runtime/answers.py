"""HTTP answers: documents, what is stored but not yet decided, and what the outcome of a command means."""

from typing import Final, assert_never

import msgspec
from litestar import Response

from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import AlreadySo, Committed, Failed, Outcome, Refused
from shared.runtime.bodies import JSON
from shared.runtime.parameters import VERSION
from shared.runtime.problems import RETRY_AFTER_S, Refusal

REPLAYED: Final = "Idempotent-Replayed"


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """Stored, and certain to be decided; `Location` says where to ask for what became of it."""

    id: str
    state: str = "accepted"
    detail: str = "It is stored. Its owner has not decided it yet: ask again at Location."


def document(
    content: object, *, status: int = 200, version: int | None = None, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """A document as JSON; `version` is the sequence that it shows at least."""
    told = dict(headers or {})
    if version is not None:
        told[VERSION] = str(version)
    return Response(encode(content), status_code=status, media_type=JSON, headers=told)


def pending(
    location: str, resource_id: str, *, version: int | None = None, detail: str | None = None
) -> Response[bytes]:
    """202: ask again, there."""
    content = Pending(id=resource_id) if detail is None else Pending(id=resource_id, detail=detail)
    headers = {"Location": location, "Retry-After": str(RETRY_AFTER_S)}
    return document(content, status=202, version=version, headers=headers)


def settled(outcome: Outcome) -> int:
    """The sequence at which it is so; raises what a refusal or a failure means to the caller."""
    match outcome:
        case Committed() | AlreadySo():
            return outcome.sequence
        case Refused():
            raise Rejected(outcome.code, outcome.detail)
        case Failed():
            raise dead_lettered(outcome.dead_letter, outcome.detail)
        case _:
            assert_never(outcome)


def dead_lettered(letter_id: str, reason: str) -> Refusal:
    """It was stored, but could not be handled; it lies there until a person replays or drops it."""
    detail = f"It could not be handled and lies in the dead letters as {letter_id}: {reason}"
    return Refusal(500, "dead_lettered", detail, dead_letter=letter_id)
