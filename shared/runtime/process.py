"""Runs a service: settings, logs, connection, views, queries, seat, commands; drains on a signal."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NoReturn

import uvloop

from shared.contracts.dead import DropDead, GetDead, ListDead, ReplayDead
from shared.contracts.naming import service_sender
from shared.kernel.errors import Behind, Unavailable, Undecodable
from shared.runtime import metrics, telemetry
from shared.runtime import settings as settings_of
from shared.runtime.active import Active
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.commands import Sender
from shared.runtime.config_watch import ConfigWatch
from shared.runtime.connection import Connection, connect
from shared.runtime.dead import DeadLetterBox
from shared.runtime.intake import Intake
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.probes import Probes
from shared.runtime.projection import Follower
from shared.runtime.publish import Publisher
from shared.runtime.queries import Answer, Asker, serve_queries
from shared.runtime.queue import CommandQueue
from shared.runtime.refusals import Refusals
from shared.runtime.replay import Replay
from shared.runtime.seat import Seat
from shared.runtime.settings import Settings
from shared.runtime.store import EventStore
from shared.runtime.suspects import Suspects
from shared.runtime.topology import ensure_volatile
from shared.runtime.views import Table

DRAIN_WITHIN_S: Final = 10.0
WATCH_EVERY_S: Final = 2.0
AGAIN_AFTER_S: Final = 1.0
COLLECT_AFTER: Final = (
    20_000,
    20,
    50,
)  # objects, young rounds, middle rounds: states are many, cycles are few
_log = logging.getLogger(__name__)


def run(service: str, assemble: Callable[[Runtime], Assembly]) -> None:
    """Run a service until a signal; exit status 0 after a drain, 1 when something ended it."""
    settings = settings_of.load(sender=service_sender(service))
    telemetry.start_logging(service, settings.instance, settings.log_level)
    telemetry.start_tracing(service, settings.instance, settings.otlp_endpoint)
    gc.set_threshold(*COLLECT_AFTER)
    try:
        uvloop.run(Process(service, settings, assemble).main())
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            _log.critical("ended by: %r", error, exc_info=error)
        sys.exit(1)


class Process:
    """One service's process, from its start to its drain."""

    def __init__(self, service: str, settings: Settings, assemble: Callable[[Runtime], Assembly]) -> None:
        self._service = service
        self._settings = settings
        self._assemble = assemble
        self._problems: dict[str, str] = {"start": "starting"}
        self._stop = asyncio.Event()
        self._tables: Sequence[Table] = ()
        self._views_stopped = asyncio.Event()

    async def main(self) -> None:
        """Start everything, wait for the signal, drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        metrics.BUILD.labels(hive_version()).set(1)
        probes = Probes(self._ready_problems)
        await probes.start(self._settings.probe_host, self._settings.probe_port)
        connection = await connect(self._settings)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(self._work(connection, tasks))
                gone = tasks.create_task(connection.closed.wait())
                stop = tasks.create_task(self._stop.wait())
                await asyncio.wait([work, gone, stop], return_when=asyncio.FIRST_COMPLETED)
                for task in (work, gone):
                    task.cancel()
                asked = stop.done()
                stop.cancel()
                await asyncio.wait([work], timeout=DRAIN_WITHIN_S)
                _end_tasks(asked=asked)
        except* Stopping:
            _log.info("stopped")
        finally:
            await probes.stop()
            await connection.close()

    async def _work(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        runtime, publisher = await self._runtime(connection, tasks)
        assembly = self._assemble(runtime)
        self._tables = assembly.tables
        follower = await self._follow(runtime, assembly)
        refusals = Refusals(self._service, runtime.store, runtime.now)
        dead = DeadLetterBox(self._service, connection, publisher)
        intake = Intake(assembly.commands)
        replay = Replay(intake, dead, refusals)
        for subject, hear in assembly.straight:
            await connection.hear(subject, hear, headers=False)
        for subject, callback in assembly.subscriptions:
            await connection.subscribe(subject, callback)
        answers = list(assembly.queries)
        if assembly.commands:
            answers += [
                Answer(ListDead, dead.list),
                Answer(GetDead, dead.show),
                Answer(ReplayDead, replay.replay),
                Answer(DropDead, replay.drop),
            ]
        if follower is not None:
            await self._catch_up(runtime, follower)
        if answers:
            await serve_queries(connection, self._service, hive_version(), answers, tasks)
        for background in assembly.background:
            runtime.spawn(background())
        seat = self._seat(runtime, assembly, intake, dead, refusals)
        self._problems.pop("start", None)
        _log.info("ready")
        try:
            if seat is not None:
                await self._sit(*seat)
            await asyncio.Event().wait()
        finally:
            if seat is not None:
                await seat[1].end()
                with contextlib.suppress(Unavailable):
                    await seat[0].release()
            for close in assembly.closing:
                await close()
            for table in assembly.tables:
                await table.close()

    async def _sit(self, seat: Seat, active: Active) -> None:
        """Be active or stand by, until the views stop: who sees no more must not decide."""
        async with asyncio.TaskGroup() as group:
            sitting = group.create_task(seat.run(active.begin, active.end))
            await self._views_stopped.wait()
            sitting.cancel()
        await active.end()
        with contextlib.suppress(Unavailable):
            await seat.release()

    async def _runtime(self, connection: Connection, tasks: asyncio.TaskGroup) -> tuple[Runtime, Publisher]:
        publisher = Publisher(connection)
        await publisher.start()
        sender = Sender(connection, publisher)
        await sender.start()
        config = ConfigWatch(connection)
        await config.start()

        async def volatile() -> None:
            metrics.RECONNECTS.labels(self._service).inc()
            tasks.create_task(_ensure_volatile(connection, self._settings.replicas))

        await ensure_volatile(connection, replicas=self._settings.replicas)
        connection.on_reconnect(volatile)
        store = JetStreamStore(connection, publisher, replicas=self._settings.replicas)
        runtime = Runtime(
            service=self._service,
            settings=self._settings,
            connection=connection,
            publisher=publisher,
            store=store,
            send=sender,
            ask=Asker(connection),
            config=lambda: config.current,
            tasks=tasks,
        )
        return runtime, publisher

    async def _follow(self, runtime: Runtime, assembly: Assembly) -> Follower | None:
        if not assembly.views and not assembly.tables:
            return None
        follower = Follower(self._service, runtime.store, runtime.codecs, runtime.strict)
        identity, last = await runtime.store.identity(), await runtime.store.last_sequence()
        for table in assembly.tables:
            await table.open(identity, last)
            runtime.spawn(table.run())
        for view in (*assembly.tables, *assembly.views):  # who leaves memory is in its table already
            follower.add(view)
        runtime.follower = follower
        runtime.spawn(self._feed(follower))
        runtime.spawn(self._watch(follower, runtime.store, identity))
        return follower

    async def _feed(self, follower: Follower) -> None:
        try:
            await follower.run()
        except Undecodable as error:
            # Never skipped: what follows might depend on it. A person has to look.
            self._problems["views"] = f"the log holds what this version cannot read: {error}"
            _log.critical(self._problems["views"])
            self._views_stopped.set()

    async def _watch(self, follower: Follower, store: EventStore, identity: str) -> None:
        """Measure how far the views are behind, and end the process when the log is another one."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            with contextlib.suppress(Unavailable):
                await follower.lag()
                position = follower.position
                if await store.identity() != identity or await store.last_sequence() < position:
                    raise LogReplaced(f"the views stand at {position} of another log: they are built again")

    async def _catch_up(self, runtime: Runtime, follower: Follower) -> None:
        self._problems["start"] = "views are catching up"
        ends = [await runtime.store.version(aggregate, "*") for aggregate in runtime.codecs]
        while "views" not in self._problems:
            with contextlib.suppress(Behind):
                await follower.reached(max(ends, default=0))
                return

    def _seat(
        self, runtime: Runtime, assembly: Assembly, intake: Intake, dead: DeadLetterBox, refusals: Refusals
    ) -> tuple[Seat, Active] | None:
        if not assembly.commands:
            return None
        suspects = Suspects(self._service, runtime.connection, runtime.publisher)

        def queue() -> CommandQueue:
            return CommandQueue(
                self._service, runtime.connection, intake, dead=dead, suspects=suspects, refusals=refusals
            )

        handlers = [route.handler for route in assembly.commands]
        seat = Seat(
            runtime.connection,
            runtime.publisher,
            self._service,
            self._settings.colour,
            self._settings.instance,
        )
        return seat, Active(runtime, assembly, queue, refusals, handlers)

    def _ready_problems(self) -> list[str]:
        return [*self._problems.values(), *(table.problem for table in self._tables if table.problem)]


class LogReplaced(Exception):
    """The log was made again, or restored, while its views were running. A new process begins with it."""


class Stopping(Exception):
    """The signal came: what still runs in the process' TaskGroup is to end."""


def _end_tasks(*, asked: bool) -> NoReturn:
    if asked:
        raise Stopping
    raise ConnectionError("the broker refused this process for good, or its work ended")


async def _ensure_volatile(connection: Connection, replicas: int) -> None:
    """What a broker's restart took; without it nobody has a seat."""
    while True:
        try:
            await ensure_volatile(connection, replicas=replicas)
        except Unavailable as away:
            _log.warning("what a restart of the broker took is not made yet: %s", away)
            await asyncio.sleep(AGAIN_AFTER_S)
        else:
            return


def hive_version() -> str:
    """The version that is installed, or that of the checkout."""
    try:
        return version("hive")
    except PackageNotFoundError:
        return "0.1.0"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
