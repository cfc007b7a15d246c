"""Questions to a service's views: NATS micro services, so that `nats micro ls` shows them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from nats.errors import Error as NatsError  # noqa: TID251
from nats.micro import add_service  # noqa: TID251
from nats.micro.request import Request as MicroRequest  # noqa: TID251
from nats.micro.service import EndpointConfig, Service, ServiceConfig  # noqa: TID251

from shared.contracts.naming import query_subject
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX
from shared.kernel.codec import encode, tag_of
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import Query
from shared.runtime import metrics, telemetry
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection

A = TypeVar("A")

ERROR_HEADER: Final = "Hive-Error"
MICRO_ERROR_HEADER: Final = "Nats-Service-Error"
PLACES_MAX: Final = 4_096  # questions being answered at a time, long waits included
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A kind of question, and who answers it."""

    query: type[Query[Any]]
    answer: Callable[[Any], Awaitable[object]]


class Ask(Protocol):
    """A question to a service: NotFound, Rejected, Behind are its own; Unavailable: nobody answered."""

    async def __call__(self, query: Query[A], *, service: str | None = None, timeout_s: float = 5.0) -> A:
        """The answer. `service` is given only for questions that every service answers."""
        ...


class Asker:
    """Ask over the broker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}

    async def __call__(self, query: Query[A], *, service: str | None = None, timeout_s: float = 5.0) -> A:
        """Ask, and read the answer."""
        kind = type(query)
        subject = query_subject(service or query.service, tag_of(kind))
        with telemetry.span("ask", query=tag_of(kind)):
            message = await self._connection.request(
                subject, encode(query), timeout=timeout_s, headers=telemetry.outgoing() or None
            )
        if message.headers and (error := message.headers.get(ERROR_HEADER)):
            raise _error(error, message.data.decode(errors="replace"))
        if message.headers and (error := message.headers.get(MICRO_ERROR_HEADER)):
            raise Unavailable(f"{subject}: {error}")  # its process is just ending
        if kind.answer is bytes:
            return cast("A", message.data)
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(cast("Any", kind.answer))
        return cast("A", decoder.decode(message.data))


async def serve_queries(
    connection: Connection, service: str, version: str, answers: Sequence[Answer], tasks: asyncio.TaskGroup
) -> Service:
    """Register the answers as a micro service; each question is answered in its own task."""
    micro = await add_service(
        connection.nc,
        ServiceConfig(name=f"hive-{service}", version=version, description=f"The {service}'s views."),
    )
    places = asyncio.Semaphore(PLACES_MAX)
    for answer in answers:
        tag = tag_of(answer.query)
        decoder = msgspec.json.Decoder(answer.query)

        async def on_request(
            request: MicroRequest,
            answer: Answer = answer,
            decoder: msgspec.json.Decoder[Any] = decoder,
        ) -> None:
            await places.acquire()
            task = tasks.create_task(_respond(service, request, answer, decoder))
            task.add_done_callback(lambda _: places.release())

        await micro.add_endpoint(
            EndpointConfig(
                name=tag, subject=query_subject(service, tag), handler=on_request, queue_group=service
            )
        )
    return micro


async def _respond(
    service: str, request: MicroRequest, answer: Answer, decoder: msgspec.json.Decoder[Any]
) -> None:
    began = monotonic()
    tag = tag_of(answer.query)
    try:
        with telemetry.span("query", incoming=request.headers, query=tag):
            await _answer(request, answer, decoder)
    except NatsError as error:
        _log.warning("%s could not be answered: %s", tag, error)
    finally:
        metrics.QUERIES.labels(service, tag).observe(monotonic() - began)


async def _answer(request: MicroRequest, answer: Answer, decoder: msgspec.json.Decoder[Any]) -> None:
    try:
        result = await answer.answer(decoder.decode(request.data))
        await request.respond(_sendable(result if isinstance(result, bytes) else encode(result)))
    except NotFound as error:
        await _refuse(request, f"notfound:{error.code}", error.detail)
    except Rejected as error:
        await _refuse(request, f"rejected:{error.code}", error.detail)
    except msgspec.MsgspecError as error:
        await _refuse(request, "rejected:bad_query", str(error))
    except Behind as error:
        await _refuse(request, "behind:behind", str(error))
    except Unavailable as error:
        await _refuse(request, "unavailable:unavailable", str(error))
    except NatsError:
        raise
    except Exception as error:  # noqa: BLE001 - one question's unexpected failure must not end the others
        _log.exception("answering %s failed", tag_of(answer.query))
        await _refuse(request, "unavailable:failed", f"{type(error).__name__}: {error}")


def _sendable(data: bytes) -> bytes:
    if len(data) > BROKER_PAYLOAD_BYTES_MAX:
        raise Rejected("answer_too_large", f"the answer has {len(data)} bytes: ask for less at a time")
    return data


async def _refuse(request: MicroRequest, error: str, detail: str) -> None:
    await request.respond(detail.encode(), headers={ERROR_HEADER: error})


def _error(error: str, detail: str) -> Exception:
    kind, _, code = error.partition(":")
    match kind:
        case "notfound":
            return NotFound(code, detail)
        case "rejected":
            return Rejected(code, detail)
        case "behind":
            return Behind(detail)
        case _:
            return Unavailable(detail)
