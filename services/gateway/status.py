"""How the hive is, at a glance: who answers, what waits, how many there are of everything."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from services.gateway.backpressure import Load
from shared.contracts.dead import ListDead
from shared.contracts.orchestrator.queries import Counts, GetCounts, HostDoc, ListHosts
from shared.kernel.errors import Unavailable
from shared.runtime.answers import document
from shared.runtime.clock import monotonic
from shared.runtime.doors import Doors, Seams
from shared.runtime.openapi import ANY_KEY, Operation, Says

ANSWER_WITHIN_S: Final = 1.0


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a service answers questions, how fast, and how many of its dead letters wait for a person."""

    name: str
    reachable: bool
    answered_in_ms: float | None = None
    dead_letters: int | None = None
    detail: str | None = None


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The commands that wait for a service. `share` is the part of the byte limit in use."""

    service: str
    waiting: int
    bytes: int
    share: float
    oldest_s: float


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the hive is. `counts` and `hosts` are null while the orchestrator does not tell."""

    version: str
    at: datetime
    services: list[ServiceStatus]
    queues: list[QueueStatus]
    counts: Counts | None
    hosts: list[HostDoc] | None


def status_route(loads: Mapping[str, Load], version: Callable[[], str]) -> HTTPRouteHandler:
    """The route, over the queues' loads as they are looked at each second."""

    @get(
        "/status",
        says=Operation(
            summary="Show the hive's status",
            scope=ANY_KEY,
            answers={200: Says(meaning="How the hive is.", form=Status)},
        ),
    )
    async def status(doors: Seams) -> Response[bytes]:
        """Every service is asked now; one that does not answer within a second is not reachable."""
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(_service(doors, service)) for service in doors.services]
            counting = tasks.create_task(_counts(doors))
            hosting = tasks.create_task(_hosts(doors))
        return document(
            Status(
                version=version(),
                at=doors.now(),
                services=[task.result() for task in asking],
                queues=[_queue(service, load) for service, load in sorted(loads.items())],
                counts=counting.result(),
                hosts=hosting.result(),
            )
        )

    return status


def _queue(service: str, load: Load) -> QueueStatus:
    return QueueStatus(
        service=service,
        waiting=load.messages,
        bytes=load.bytes,
        share=round(load.share, 4),
        oldest_s=round(load.oldest_s, 3),
    )


async def _service(doors: Doors, service: str) -> ServiceStatus:
    began = monotonic()
    try:
        letters = await doors.ask(ListDead(limit=1), service=service, timeout_s=ANSWER_WITHIN_S)
    except Unavailable as away:
        return ServiceStatus(name=service, reachable=False, detail=str(away))
    took_ms = round((monotonic() - began) * 1000, 1)
    return ServiceStatus(name=service, reachable=True, answered_in_ms=took_ms, dead_letters=letters.total)


async def _counts(doors: Doors) -> Counts | None:
    try:
        return await doors.ask(GetCounts(), timeout_s=ANSWER_WITHIN_S)
    except Unavailable:
        return None


async def _hosts(doors: Doors) -> list[HostDoc] | None:
    try:
        return (await doors.ask(ListHosts(), timeout_s=ANSWER_WITHIN_S)).items
    except Unavailable:
        return None
