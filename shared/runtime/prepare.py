"""Making brokers fit for a hive: that are just finding each other, or that met a full disk."""

import asyncio
from collections.abc import Collection
from typing import Final

import msgspec

from shared.contracts import naming
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime import topology
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused
from shared.runtime.permissions import SERVICES
from shared.runtime.topology import Api

FORMED_WITHIN_S: Final = 60.0
HANDED_OUT_WITHIN_S: Final = 60.0
ASK_AGAIN_S: Final = 0.5
FORMING: Final = frozenset({10005, 10008, 10009, 10010})
"""No peers for a stream yet, no leader yet, a peer not there yet: a cluster says so while it forms."""


async def prepare(
    connection: Api,
    *,
    services: Collection[str] = SERVICES,
    replicas: int = 1,
    within_s: float = FORMED_WITHIN_S,
) -> None:
    """As `topology.ensure`; a cluster gets its time to form, a single broker needs none."""
    until = monotonic() + within_s
    while True:
        try:
            await topology.ensure(connection, services=services, replicas=replicas)
        except BrokerRefused as refused:
            if refused.code not in FORMING or monotonic() > until:
                raise
        except Unavailable:
            if replicas == 1 or monotonic() > until:
                raise
        else:
            return
        await asyncio.sleep(ASK_AGAIN_S)


class _From(msgspec.Struct, frozen=True):
    seq: int


async def hand_out_again(connection: Api, *, services: Collection[str] = SERVICES) -> None:
    """Have every command that still lies in a queue delivered once more; who decided it before says so again.

    A broker with a full disk may note that a command was acknowledged, and not that it is gone: then it lies
    in its queue for ever, nobody is given it, and the queue looks older each second.
    """
    for service in services:
        for colour in naming.COLOURS:
            consumer = naming.command_consumer(service, colour)
            where = f"{naming.command_stream(service)}.{consumer}"
            try:  # asked to reset one that is not there, the broker is silent
                await connection.api(f"CONSUMER.INFO.{where}")
                await connection.api(f"CONSUMER.RESET.{where}", encode(_From(seq=1)))
            except BrokerRefused as refused:
                if refused.code not in {topology.STREAM_NOT_FOUND, topology.CONSUMER_NOT_FOUND}:
                    raise


async def hand_out_after_restart(
    connection: Api, *, services: Collection[str] = SERVICES, within_s: float = HANDED_OUT_WITHIN_S
) -> None:
    """As `hand_out_again`, of a broker that has just come back and may still read its store."""
    until = monotonic() + within_s
    while True:
        try:
            await hand_out_again(connection, services=services)
        except (BrokerRefused, Unavailable):
            if monotonic() > until:
                raise
        else:
            return
        await asyncio.sleep(ASK_AGAIN_S)
