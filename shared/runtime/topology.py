"""Every stream, bucket and durable consumer as data; `ensure` makes what is missing, and drift is an error.

Nothing that exists is ever changed here. Which partitions a consumer owns is a matter of migration, so
filters that differ are no drift.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

import msgspec

from shared.contracts import naming
from shared.contracts.words import ACK_WAIT, PARTITIONS, SEAT_TTL
from shared.kernel.codec import encode
from shared.runtime.connection import BrokerRefused
from shared.runtime.permissions import ANSWERED_WITHIN, SERVICES
from shared.runtime.streamconfig import (
    DEFAULT_WINDOW,
    ConsumerConfig,
    ConsumerRequest,
    StreamConfig,
    SubjectTransform,
    ns,
)

MIB: Final = 1024 * 1024
COMMAND_BYTES_MAX: Final = 256 * MIB
DISPATCH_BYTES_MAX: Final = 64 * MIB
DEAD_BYTES_MAX: Final = 256 * MIB
LIVE_BYTES_MAX: Final = 64 * MIB
BUCKET_BYTES_MAX: Final = 16 * MIB
LIVE_CHUNKS_MAX: Final = 2_000  # of one task
LIVE_FOR: Final = timedelta(minutes=15)
DEAD_FOR: Final = timedelta(days=30)
SUSPECT_FOR: Final = timedelta(days=1)
COMMANDS_UNACKED_MAX: Final = 4_096
ASSIGNMENTS_UNACKED_MAX: Final = 128
PULL_FOR_MAX: Final = timedelta(seconds=45)
assert PULL_FOR_MAX < ANSWERED_WITHIN  # or the way back into the bots' account would be forgotten first

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014

_FILTERS = frozenset({"filter_subject", "filter_subjects"})


class Api(Protocol):
    """What is needed of a Connection."""

    async def api(self, subject: str, body: bytes | msgspec.Struct = b"", *, timeout: float = 5.0) -> bytes:
        """Ask JetStream; BrokerRefused when it answers with an error."""
        ...


class Difference(NamedTuple):
    """One field that is not as it should be."""

    where: str
    field: str
    wanted: object
    found: object

    def __str__(self) -> str:
        return f"{self.where}: {self.field} is {self.found!r}, must be {self.wanted!r}"


class Drift(Exception):
    """What exists is not what this version needs. Nothing was changed."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        super().__init__("; ".join(map(str, differences)))
        self.differences = tuple(differences)


def events(replicas: int) -> StreamConfig:
    """The log: it only grows, and refuses rather than forgets."""
    return StreamConfig(
        name=naming.EVENTS,
        subjects=(naming.event_subject("*", "*"),),
        discard="new",
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        allow_atomic=True,
        num_replicas=replicas,
    )


def commands(service: str, replicas: int) -> StreamConfig:
    """A service's work queue. The partition of the aggregate becomes part of the stored subject."""
    return StreamConfig(
        name=naming.command_stream(service),
        subjects=(naming.command_subject(service, "*", "*"),),
        subject_transform=SubjectTransform(
            src=naming.command_subject("*", "*", "*"),
            dest=naming.stored_command_transform(),
        ),
        retention="workqueue",
        discard="new",
        max_bytes=COMMAND_BYTES_MAX,
        allow_direct=True,
        allow_atomic=True,
        num_replicas=replicas,
    )


def dispatch(replicas: int) -> StreamConfig:
    """Assignments on their way to bots. In memory: what a restart takes is given again, see ADR 13."""
    return StreamConfig(
        name=naming.DISPATCH,
        subjects=(naming.run_subject("*"),),
        storage="memory",
        retention="workqueue",
        discard="new",
        max_bytes=DISPATCH_BYTES_MAX,
        allow_direct=True,
        allow_atomic=True,
        allow_msg_ttl=True,
        num_replicas=replicas,
    )


def dead(replicas: int) -> StreamConfig:
    """The dead letters: the newest message on a subject is the letter's state."""
    return StreamConfig(
        name=naming.DEAD,
        subjects=(naming.dead_subject("*", "*", "*"),),
        discard="new",
        max_age=ns(DEAD_FOR),
        max_bytes=DEAD_BYTES_MAX,
        max_msgs_per_subject=1,
        allow_direct=True,
        num_replicas=replicas,
    )


def live(replicas: int) -> StreamConfig:
    """Output as it appears. In memory: a reader too late reads the whole result elsewhere."""
    return StreamConfig(
        name=naming.LIVE,
        subjects=(naming.live_subject("*", "*"),),
        storage="memory",
        max_age=ns(LIVE_FOR),
        max_bytes=LIVE_BYTES_MAX,
        max_msgs_per_subject=LIVE_CHUNKS_MAX,
        allow_direct=True,
        num_replicas=replicas,
    )


def bucket(name: str, replicas: int, *, storage: str = "file", ttl: timedelta = timedelta(0)) -> StreamConfig:
    """A key-value bucket that keeps the last value of each key."""
    window = min(ttl, DEFAULT_WINDOW) if ttl else DEFAULT_WINDOW  # never longer than a message lives
    return StreamConfig(
        name=naming.bucket_stream(name),
        subjects=(f"$KV.{name}.>",),
        storage=storage,
        discard="new",
        max_age=ns(ttl),
        max_bytes=BUCKET_BYTES_MAX,
        max_msgs_per_subject=1,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        num_replicas=replicas,
        duplicate_window=ns(window),
    )


def files(replicas: int) -> StreamConfig:
    """The object store: bytes named by their hash."""
    return StreamConfig(
        name=naming.object_stream(naming.FILES),
        subjects=(f"$O.{naming.FILES}.C.>", f"$O.{naming.FILES}.M.>"),
        discard="new",
        allow_direct=True,
        allow_rollup_hdrs=True,
        num_replicas=replicas,
    )


def volatile(replicas: int) -> tuple[StreamConfig, ...]:
    """What is gone after a broker's restart, and is made again by any service: none of it is the truth."""
    return (
        live(replicas),
        bucket(naming.SEATS_BUCKET, replicas, storage="memory", ttl=SEAT_TTL),
        dispatch(replicas),
    )


def streams(services: Collection[str], replicas: int) -> tuple[StreamConfig, ...]:
    """Every stream of a hive."""
    kept = (
        naming.CONFIG_BUCKET,
        naming.ROUTING_BUCKET,
        naming.HEALTH_BUCKET,
        naming.MODE_BUCKET,
        naming.TRAFFIC_BUCKET,
    )
    return (
        events(replicas),
        *(commands(service, replicas) for service in services),
        dead(replicas),
        files(replicas),
        *(bucket(name, replicas) for name in kept),
        bucket(naming.SUSPECTS_BUCKET, replicas, ttl=SUSPECT_FOR),
        *volatile(replicas),
    )


def command_consumer(service: str, colour: str, partitions: Collection[int]) -> ConsumerRequest:
    """The durable consumer through which one colour of a service owns partitions."""
    assert partitions, "an empty filter would mean everything"
    config = ConsumerConfig(
        durable_name=naming.command_consumer(service, colour),
        ack_policy="explicit",
        deliver_policy="all",
        replay_policy="instant",
        ack_wait=ns(ACK_WAIT),
        max_deliver=-1,
        max_ack_pending=COMMANDS_UNACKED_MAX,
        filter_subjects=naming.stored_command_filters(service, partitions),
    )
    return ConsumerRequest(stream_name=naming.command_stream(service), config=config, action="create")


def bot_consumer_config(bot_id: str) -> ConsumerRequest:
    """A bot's durable consumer. Sent again, it changes nothing."""
    config = ConsumerConfig(
        durable_name=naming.bot_consumer(bot_id),
        ack_policy="explicit",
        deliver_policy="all",
        replay_policy="instant",
        ack_wait=ns(ACK_WAIT),
        max_deliver=-1,
        max_ack_pending=ASSIGNMENTS_UNACKED_MAX,
        max_expires=ns(PULL_FOR_MAX),
        filter_subject=naming.run_subject(bot_id),
    )
    return ConsumerRequest(stream_name=naming.DISPATCH, config=config)


async def ensure(connection: Api, *, services: Collection[str] = SERVICES, replicas: int = 1) -> None:
    """Make what is missing of the whole topology, as `ops`. Raises Drift, before anything is made."""
    missing = await _missing_streams(connection, streams(services, replicas))
    consumers = [request for service in services for request in await _missing_consumers(connection, service)]
    for config in missing:
        await connection.api(f"STREAM.CREATE.{config.name}", config)
    for request in consumers:
        await connection.api(request.subject, request)


async def ensure_volatile(connection: Api, *, replicas: int = 1) -> None:
    """Make again what a broker's restart took; every service does, on each connect."""
    for config in await _missing_streams(connection, volatile(replicas)):
        await connection.api(f"STREAM.CREATE.{config.name}", config)


async def ensure_bot_consumer(connection: Api, bot_id: str) -> None:
    """The bot can pull its assignments."""
    request = bot_consumer_config(bot_id)
    await connection.api(request.subject, request)


async def remove_bot_consumer(connection: Api, bot_id: str) -> None:
    """The bot's consumer is gone, and what waited for it. Repeatable."""
    try:
        await connection.api(f"CONSUMER.DELETE.{naming.DISPATCH}.{naming.bot_consumer(bot_id)}")
    except BrokerRefused as refused:
        if refused.code != CONSUMER_NOT_FOUND:
            raise
    await connection.api(f"STREAM.PURGE.{naming.DISPATCH}", encode({"filter": naming.run_subject(bot_id)}))


class _StreamInfo(msgspec.Struct):
    config: StreamConfig


class _ConsumerInfo(msgspec.Struct):
    config: ConsumerConfig


async def _missing_streams(connection: Api, wanted: Sequence[StreamConfig]) -> list[StreamConfig]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_stream(connection, config.name)) for config in wanted]
    except ExceptionGroup as troubles:  # who asks waits for Unavailable, and one says enough
        raise troubles.exceptions[0] from troubles
    found = [task.result() for task in tasks]
    pairs = [(config, there) for config, there in zip(wanted, found, strict=True) if there is not None]
    differences = [
        difference for config, there in pairs for difference in _differences(config.name, config, there)
    ]
    if differences:
        raise Drift(differences)
    return [config for config, there in zip(wanted, found, strict=True) if there is None]


async def _missing_consumers(connection: Api, service: str) -> list[ConsumerRequest]:
    """Blue with all partitions, unless a colour of the service owns some: then migration has been at work."""
    differences: list[Difference] = []
    owned = False
    for colour in naming.COLOURS:
        wanted = command_consumer(service, colour, range(PARTITIONS))
        there = await _consumer(connection, wanted)
        if there is not None:
            owned = True
            where = f"{wanted.stream_name} > {wanted.config.durable_name}"
            differences += _differences(where, wanted.config, there, leave_out=_FILTERS)
    if differences:
        raise Drift(differences)
    return [] if owned else [command_consumer(service, naming.BLUE, range(PARTITIONS))]


async def _stream(connection: Api, name: str) -> StreamConfig | None:
    try:
        answer = await connection.api(f"STREAM.INFO.{name}")
    except BrokerRefused as refused:
        if refused.code == STREAM_NOT_FOUND:
            return None
        raise
    return msgspec.json.decode(answer, type=_StreamInfo).config


async def _consumer(connection: Api, wanted: ConsumerRequest) -> ConsumerConfig | None:
    try:
        answer = await connection.api(f"CONSUMER.INFO.{wanted.stream_name}.{wanted.config.durable_name}")
    except BrokerRefused as refused:
        if refused.code in {STREAM_NOT_FOUND, CONSUMER_NOT_FOUND}:
            return None
        raise
    return msgspec.json.decode(answer, type=_ConsumerInfo).config


def _differences(
    where: str, wanted: msgspec.Struct, found: msgspec.Struct, *, leave_out: frozenset[str] = frozenset()
) -> list[Difference]:
    return [
        Difference(where, field, getattr(wanted, field), getattr(found, field))
        for field in wanted.__struct_fields__
        if field not in leave_out and getattr(wanted, field) != getattr(found, field)
    ]
