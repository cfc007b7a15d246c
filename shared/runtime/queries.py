"""Questions to a service's views: NATS micro services, so that `nats micro ls` shows them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from nats.micro import add_service  # noqa: TID251
from nats.micro.request import Request as MicroRequest  # noqa: TID251
from nats.micro.service import EndpointConfig, Service, ServiceConfig  # noqa: TID251

from shared.contracts.naming import query_subject
from shared.kernel.codec import encode, tag_of
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import Query
from shared.runtime import metrics
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection

A = TypeVar("A")

ERROR_HEADER: Final = "Hive-Error"
PLACES_MAX: Final = 4_096  # questions being answered at a time, long waits included


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
        message = await self._connection.request(subject, encode(query), timeout=timeout_s)
        if message.headers and (error := message.headers.get(ERROR_HEADER)):
            raise _error(error, message.data.decode(errors="replace"))
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
    try:
        result = await answer.answer(decoder.decode(request.data))
        data = result if isinstance(result, bytes) else encode(result)
        await request.respond(data)
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
    finally:
        metrics.QUERIES.labels(service, tag_of(answer.query)).observe(monotonic() - began)


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
