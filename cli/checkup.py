"""What `hive doctor` asks a running hive: its services, broker and streams, and how long there is room."""

import asyncio
import http.client
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import psutil

from cli import probing, screen
from cli.checks import FAIL, OK, WARN, Check
from cli.data_dir import Running
from shared.contracts.naming import EVENTS
from shared.kernel.errors import Unavailable
from shared.runtime import broker, topology
from shared.runtime.broker import BrokerError
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.settings import Settings

CONNECT_WITHIN_S: Final = 5.0
BYTES_PER_AGGREGATE: Final = 300  # of the broker's memory: 0.3 GB for a million
DAYS_WARN: Final = 30.0
DAYS_FAIL: Final = 3.0
MEASURED_FROM: Final = timedelta(hours=1)  # growth over less than that says nothing about days
CLOCK_SLACK_S: Final = 2.0


async def running_hive(running: Running, now: datetime) -> list[Check]:
    """Everything that only a running hive can tell."""
    found = [await _service(name, probe) for name, probe in sorted(running.probes.items())]
    if running.monitor_url is not None:
        found += await asyncio.to_thread(lambda: list(_broker(running, running.monitor_url or "", now)))
    return [*found, *await _streams(running, now)]


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
        return [await _drift(connection), await _room(connection, running, now)]
    except (Unavailable, BrokerRefused) as error:
        return [Check(name="streams", level=FAIL, detail=str(error), remedy="hive logs nats-server")]
    finally:
        await connection.close(drain=False)


async def _ops(running: Running) -> Connection:
    settings = Settings(
        sender="ops",
        instance="doctor",
        data=Path(running.admin_key).parent,
        nats_url=running.nats_url,
        creds=Path(running.creds) if running.creds else None,
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


async def _drift(connection: Connection) -> Check:
    looking = _Looking(connection)
    try:
        await topology.ensure(looking)
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
