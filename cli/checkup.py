"""What `hive doctor` asks a running hive: its services, broker and streams, and how long there is room."""

import asyncio
import contextlib
import http.client
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import psutil
from nats.aio.msg import Msg  # noqa: TID251

from cli import probing, screen
from cli.checks import FAIL, OK, WARN, Check
from cli.data_dir import Running
from shared.contracts.naming import EVENTS
from shared.kernel.errors import Unavailable
from shared.runtime import broker, topology
from shared.runtime.broker import BrokerError
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.permissions import OPS, SERVERS_SUBJECT, SERVICES, SYSTEM_SENDER
from shared.runtime.settings import Settings

CONNECT_WITHIN_S: Final = 5.0
BYTES_PER_AGGREGATE: Final = 300  # of the broker's memory: 0.3 GB for a million
DAYS_WARN: Final = 30.0
DAYS_FAIL: Final = 3.0
MEASURED_FROM: Final = timedelta(hours=1)  # growth over less than that says nothing about days
CLOCK_SLACK_S: Final = 2.0
SERVERS_ANSWER_WITHIN_S: Final = 2.0


class _SyncConfig(msgspec.Struct, frozen=True):
    sync_always: bool = False


class _JetStream(msgspec.Struct, frozen=True):
    config: _SyncConfig | None = None


class _Varz(msgspec.Struct, frozen=True):
    server_name: str
    jetstream: _JetStream = _JetStream()


class _Told(msgspec.Struct, frozen=True):
    data: _Varz


class _Copy(msgspec.Struct, frozen=True):
    name: str
    current: bool = False
    offline: bool = False
    lag: int = 0


class _Spread(msgspec.Struct, frozen=True):
    replicas: tuple[_Copy, ...] = ()


class _Copies(msgspec.Struct, frozen=True):
    cluster: _Spread = _Spread()


async def running_hive(running: Running, now: datetime) -> list[Check]:
    """Everything that only a running hive can tell."""
    found = [await _service(name, probe) for name, probe in sorted(running.probes.items())]
    if running.monitor_url is not None:
        found += await asyncio.to_thread(lambda: list(_broker(running, running.monitor_url or "", now)))
    else:
        found += await cluster_checks(running)
    return [*found, *await _streams(running, now)]


async def cluster_checks(running: Running) -> list[Check]:
    """What brokers that are not ours say of themselves, if the keys at hand may ask them."""
    creds = Path(running.creds).with_name(f"{SYSTEM_SENDER}.creds") if running.creds else None
    if creds is None or not creds.exists():
        detail = f"not asked: {SYSTEM_SENDER}.creds is not among the keys"
        return [Check(name="brokers", level=WARN, detail=detail, remedy="`hive cluster init` makes it")]
    try:
        system = await _connected(running, SYSTEM_SENDER, creds)
    except Unavailable as error:
        return [Check(name="brokers", level=FAIL, detail=str(error), remedy="see to the brokers")]
    try:
        servers = await _servers(system, running.replicas)
    finally:
        await system.close(drain=False)
    return [_brokers(running, servers), *(_node(running, server) for server in servers)]


async def _servers(system: Connection, expected: int) -> list[_Varz]:
    """What each server answers; fewer than expected when some are away."""
    heard: list[_Varz] = []
    enough = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.append(msgspec.json.decode(message.data, type=_Told).data)
        if len(heard) >= expected:
            enough.set()

    inbox = system.inbox()
    await system.subscribe(inbox, hear)
    await system.publish(SERVERS_SUBJECT, b"", inbox)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SERVERS_ANSWER_WITHIN_S):
            await enough.wait()
    return sorted(heard, key=lambda server: server.server_name)


def _brokers(running: Running, servers: list[_Varz]) -> Check:
    names = ", ".join(server.server_name for server in servers) or "none"
    detail = f"{len(servers)} of {running.replicas} answer: {names}"
    level = OK if len(servers) >= running.replicas else WARN if len(servers) > running.replicas // 2 else FAIL
    return Check(
        name="brokers", level=level, detail=detail, remedy="" if level == OK else "start those that are away"
    )


def _node(running: Running, server: _Varz) -> Check:
    """`sync_interval` of one server, as it says itself; and whether it tells that a disk was full."""
    name = f"broker {server.server_name}"
    if server.jetstream.config is None:
        return Check(name=name, level=FAIL, detail="JetStream is not enabled", remedy="see to its log")
    if server.jetstream.config.sync_always:
        return Check(name=name, level=OK, detail="sync_interval is always: acknowledged means on disk")
    return Check(
        name=name,
        level=WARN if running.durability == "os" or running.replicas > 1 else FAIL,
        detail="sync_interval is not always: acknowledged survives the end of processes, but not a power cut "
        "that takes a majority of the brokers at once",
        remedy="`hive cluster init --durability fsync`, and start it with that configuration",
    )


async def _service(name: str, probe: str) -> Check:
    address = urlsplit(probe)
    problems = await probing.problems(address.hostname or "", address.port or 0)
    if problems:
        return Check(name=name, level=FAIL, detail="; ".join(problems), remedy=f"hive logs {name}")
    return Check(name=name, level=OK, detail="ready")


def _broker(running: Running, monitor_url: str, now: datetime) -> Iterator[Check]:
    """What the server says of itself: not what we told it."""
    try:
        proof = broker.read_durability(monitor_url)
    except BrokerError as error:
        yield Check(name="broker", level=FAIL, detail=str(error), remedy="hive logs nats-server")
        return
    if proof.synced:
        detail = f"sync_always: acknowledged means on disk ({proof.store_dir})"
        yield Check(name="durability", level=OK, detail=detail)
    else:
        yield Check(
            name="durability",
            level=WARN if running.durability == "os" else FAIL,
            detail="sync_interval is not always: acknowledged survives kill -9, but not a power cut",
            remedy="`hive up --durability fsync`",
        )
    if (why := broker.read_stuck(monitor_url)) is not None:
        yield Check(
            name="broker",
            level=FAIL,
            detail=f"it stores no more: {why}",
            remedy=f"free space under {proof.store_dir}; `hive up` then starts it again by itself",
        )
    yield _store(proof)
    yield _clock(monitor_url, now)


def _store(proof: broker.Durability) -> Check:
    percent = round(100 * proof.file_bytes / max(1, proof.file_bytes_max))
    detail = f"{screen.size(proof.file_bytes)} of {screen.size(proof.file_bytes_max)} ({percent} %)"
    if percent >= 85:  # noqa: PLR2004 - the same as for the disk
        return Check(
            name="store", level=FAIL, detail=detail, remedy="a larger disk: the log cannot be purged"
        )
    return Check(name="store", level=WARN if percent >= 70 else OK, detail=detail)  # noqa: PLR2004


class _Now(msgspec.Struct):
    now: datetime


def _clock(monitor_url: str, now: datetime) -> Check:
    connection = http.client.HTTPConnection(urlsplit(monitor_url).netloc, timeout=2.0)
    try:
        connection.request("GET", "/varz")
        told = msgspec.json.decode(connection.getresponse().read(), type=_Now).now
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        return Check(name="broker clock", level=WARN, detail=f"not told: {error}")
    finally:
        connection.close()
    apart = abs((told - now).total_seconds())
    if apart > CLOCK_SLACK_S:
        detail = f"the broker's clock and this one are {apart:.1f} s apart"
        return Check(name="broker clock", level=FAIL, detail=detail, remedy="set both by NTP")
    return Check(name="broker clock", level=OK, detail="agrees with this machine's")


async def _streams(running: Running, now: datetime) -> list[Check]:
    try:
        connection = await _ops(running)
    except Unavailable as error:
        return [Check(name="streams", level=FAIL, detail=str(error), remedy="hive logs nats-server")]
    try:
        return [
            await _drift(connection, running.replicas),
            *await _replicas(connection, running),
            await _room(connection, running, now),
        ]
    except (Unavailable, BrokerRefused) as error:
        return [Check(name="streams", level=FAIL, detail=str(error), remedy="hive logs nats-server")]
    finally:
        await connection.close(drain=False)


async def _ops(running: Running) -> Connection:
    return await _connected(running, OPS, Path(running.creds) if running.creds else None)


async def _connected(running: Running, sender: str, creds: Path | None) -> Connection:
    settings = Settings(
        sender=sender,
        instance="doctor",
        data=Path(running.admin_key).parent,
        nats_url=running.nats_url,
        creds=creds,
    )
    return await connect(settings, within=CONNECT_WITHIN_S)


class _Looking:
    """Asks, and makes nothing: what would be made is what is missing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.missing: list[str] = []

    async def api(self, subject: str, body: bytes | msgspec.Struct = b"", *, timeout: float = 5.0) -> bytes:
        """Let questions through, and note what `ensure` would make."""
        if ".INFO." in subject:
            return await self._connection.api(subject, body, timeout=timeout)
        self.missing.append(subject)
        return b"{}"


async def _replicas(connection: Connection, running: Running) -> list[Check]:
    """Whether the copies of each stream are level with their leader."""
    if running.replicas == 1:
        return []
    behind = []
    for config in topology.streams(SERVICES, running.replicas):
        info = msgspec.json.decode(await connection.api(f"STREAM.INFO.{config.name}"), type=_Copies)
        if len(info.cluster.replicas) != running.replicas - 1:
            behind.append(f"{config.name} has {len(info.cluster.replicas) + 1} copies")
        behind += [
            f"{config.name} on {copy.name} {'is away' if copy.offline else f'lags by {copy.lag}'}"
            for copy in info.cluster.replicas
            if not copy.current
        ]
    if behind:
        remedy = "a broker that comes back catches up by itself; see to those that are away"
        return [Check(name="replicas", level=WARN, detail="; ".join(behind), remedy=remedy)]
    return [Check(name="replicas", level=OK, detail=f"{running.replicas} copies of each stream, all level")]


async def _drift(connection: Connection, replicas: int) -> Check:
    looking = _Looking(connection)
    try:
        await topology.ensure(looking, replicas=replicas)
    except topology.Drift as drift:
        return Check(
            name="streams",
            level=FAIL,
            detail=str(drift),
            remedy="this version needs them as said; go back to the version that made them, or migrate",
        )
    if looking.missing:
        detail = f"missing: {', '.join(looking.missing)}"
        return Check(
            name="streams", level=FAIL, detail=detail, remedy="`hive down`, then `hive up` makes them"
        )
    return Check(name="streams", level=OK, detail="as this version needs them")


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_ts: datetime
    num_subjects: int = 0


class _Info(msgspec.Struct):
    state: _State


async def _room(connection: Connection, running: Running, now: datetime) -> Check:
    """How many days the log can go on growing as it did, on disk and in the broker's memory."""
    state = msgspec.json.decode(await connection.api(f"STREAM.INFO.{EVENTS}"), type=_Info).state
    held = f"{state.messages:,} commits of {state.num_subjects:,} aggregates, {screen.size(state.bytes)}"
    age = now - state.first_ts
    if not state.messages or age < MEASURED_FROM:
        return Check(
            name="room", level=OK, detail=f"{held}; too young to say for how many days there is room"
        )
    free = shutil.disk_usage(Path(running.admin_key).parent).free
    memory = psutil.virtual_memory().available
    return room(held, state.bytes, state.num_subjects, age, free_bytes=free, memory_bytes=memory)


def room(
    held: str, log_bytes: int, aggregates: int, age: timedelta, *, free_bytes: int, memory_bytes: int
) -> Check:
    """Days left, if it goes on growing as it did since its first commit."""
    days = age / timedelta(days=1)
    on_disk = free_bytes / max(1.0, log_bytes / days)
    in_memory = memory_bytes / max(1.0, aggregates * BYTES_PER_AGGREGATE / days)
    growth = screen.size(log_bytes / days)
    detail = f"{held}, grows {growth} a day: {on_disk:,.0f} days left on disk, {in_memory:,.0f} in memory"
    left = min(on_disk, in_memory)
    if left < DAYS_FAIL:
        return Check(name="room", level=FAIL, detail=detail, remedy="a larger disk or more memory, now")
    if left < DAYS_WARN:
        return Check(name="room", level=WARN, detail=detail, remedy="a larger disk or more memory, soon")
    return Check(name="room", level=OK, detail=detail)
