"""What every bot's process runs: heartbeat, assignments, engine, reports; and how it leaves."""

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec
import uvloop
from nats.aio.msg import Msg  # noqa: TID251

from bots import identity as identities
from bots.children import Children
from bots.engines import Engine
from bots.engines.choice import choose, program_environment
from bots.engines.program import Programs, Room
from bots.heart import Heart
from bots.identity import Identity
from bots.lease import Seen
from bots.mailbox import Mailbox
from bots.outbox import Outbox
from bots.reader import BotReader
from bots.reports import Reports
from bots.run import Bench, Run, Why
from bots.sandbox import SandboxReport, readable, sandbox_report
from bots.talk import OnMessage, Talk
from bots.turns import Turns
from shared.contracts.naming import DISPATCH, bot_consumer, control_subject, live_subject
from shared.contracts.orchestrator.protocol import (
    Assignment,
    CancelRun,
    Chunk,
    Control,
    Drain,
    Heartbeat,
    HeartbeatAnswer,
)
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected, Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection, connect
from shared.runtime.pull import Delivery, PullConsumer
from shared.runtime.settings import SettingsError
from shared.runtime.telemetry import start_logging

PULL_HEARTBEAT_S: Final = 10.0  # of the broker, for a pull that is silent: an idle bot costs next to nothing
LAST_REPORTS_WITHIN_S: Final = 1.5
PAGE_BYTES: Final = resource.getpagesize()
WRONG: Final = 1

_assignments = msgspec.json.Decoder(Assignment)
_controls = msgspec.json.Decoder(CancelRun | Drain)
_log = logging.getLogger(__name__)


class BotProcess:
    """One bot at work over one connection, until it is told to leave; without an engine it does no tasks."""

    def __init__(
        self,
        identity: Identity,
        engine: Engine | None,
        connection: Connection,
        on_message: OnMessage | None = None,
    ) -> None:
        self._identity = identity
        self._connection = connection
        bot_id = identity.bot_id
        self._outbox = Outbox(connection)
        self._bench = self._bench_for(engine)
        self.talk = Talk(bot_id, self._outbox)
        turns = Turns(self._bench, self.talk) if self._bench is not None else None
        self._mailbox = Mailbox(
            connection,
            bot_id,
            self._outbox,
            BotReader(self.talk, turns, on_message),
            places=identity.spec.slots,
            when_idle=self._look,
        )
        self._heart = Heart(connection, bot_id, self)
        self._pull = PullConsumer(
            connection,
            DISPATCH,
            bot_consumer(bot_id),
            batch=0,
            heartbeat_s=PULL_HEARTBEAT_S,
            keep_untaken=False,
        )
        self._runs: dict[int, Run] = {}
        self._seen = Seen()
        self._began_at = monotonic()
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._group: asyncio.TaskGroup
        self._changed = asyncio.Event()
        self._draining = False
        self._leaving = False
        self._signalled = False

    async def live(self) -> bool:
        """Work until told to leave; whether it was told so, and not thrown out by the broker."""
        async with asyncio.TaskGroup() as self._group:
            await self._connection.subscribe(control_subject(self._identity.bot_id), self._on_control)
            await self._mailbox.open(self._group)
            parts = (self._heart.run(), self._take(), self._mailbox.run(), self._see_closed())
            own = [self._group.create_task(part) for part in parts]
            await self._until(lambda: self._leaving or (self._draining and self._is_idle))
            with contextlib.suppress(Unavailable):
                await self._pull.stop()
            for run in list(self._runs.values()):
                run.stop(Why.SHUT_DOWN)
            self._mailbox.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPORTS_WITHIN_S):
                    await self._until(lambda: self._is_idle)
            for run in list(self._runs.values()):
                run.give_up()
            self._mailbox.give_up()
            self._outbox.close()
            for task in own:
                task.cancel()
        os.close(self._statm)
        return not self._connection.closed.is_set()

    def drain(self) -> None:
        """Take nothing new, and leave when nothing is held."""
        self._draining = True
        self._mailbox.close()
        self._heart.now()
        self._look()

    def leave(self) -> None:
        """Stop what is held, report that, and leave."""
        self._leaving = True
        self._look()

    def on_stop_signal(self) -> None:
        """First SIGTERM: drain, for as long as the grace lasts. Second: leave."""
        if self._signalled:
            self.leave()
            return
        self._signalled = True
        asyncio.get_running_loop().call_later(self._identity.stop_grace_s, self.leave)
        self.drain()

    def children_of(self, task: Assignment) -> Children:
        """The tasks that an attempt spawns."""
        return Children(self._connection, self._outbox, self._identity.bot_id, task)

    # What the heart beats for.

    def heartbeat(self) -> Heartbeat:
        """What is held, and what this process uses."""
        for run in self._runs.values():
            run.named = True
        return Heartbeat(
            bot_id=self._identity.bot_id,
            generation=self._identity.generation,
            pid=os.getpid(),
            host=self._identity.settings.host_id,
            held=tuple(run.held for run in self._runs.values()),
            free_slots=self._free_slots(),
            rss_bytes=rss_bytes(self._statm),
            cpu_s=round(time.process_time(), 3),
            uptime_s=round(monotonic() - self._began_at, 3),
        )

    def has_news(self) -> bool:
        """Whether something was taken and not yet named."""
        return any(run.is_news for run in self._runs.values())

    def on_answer(self, answer: HeartbeatAnswer, gone: frozenset[int]) -> None:
        """Stop what is not ours any more, and do as told."""
        for token in gone & self._runs.keys():
            self._runs[token].stop(Why.NOT_HELD)
        if answer.stop:
            self.leave()
        elif answer.drain and not self._draining:
            self.drain()
        elif gone or self._pull.want != self._free_slots():
            self._look()

    def on_cut_off(self) -> None:
        """Nobody answered for too long: another bot may get the work."""
        if self._runs:
            _log.warning("no heartbeat was answered: all engines are stopped")
        for run in list(self._runs.values()):
            run.stop(Why.CUT_OFF)
        self._look()

    # Assignments.

    async def _take(self) -> None:
        async with contextlib.aclosing(self._pull.batches()) as batches:
            async for batch in batches:
                for delivery in batch:
                    await self._consider(delivery)
                self._look()

    async def _consider(self, delivery: Delivery) -> None:
        try:
            task = _assignments.decode(delivery.data)
        except msgspec.DecodeError as error:
            _log.exception("an assignment cannot be read")
            await delivery.term(f"cannot be read: {error}")
            return
        with contextlib.suppress(Unavailable):  # unacked, it comes again, and is known then
            if self._free_slots() == 0 and task.token not in self._runs:
                await delivery.nak(0.1)
            elif self._seen.is_new(task.token):
                self._begin(task)
                await delivery.ack()
            else:
                await delivery.ack()

    def _begin(self, task: Assignment) -> None:
        assert self._bench is not None, "nothing is taken without an engine"
        run = Run(task, self._bench)
        self._runs[task.token] = run
        self._heart.soon()
        run.start(self._group, lambda: self._over(task.token))

    def _over(self, token: int) -> None:
        del self._runs[token]
        self._look()

    def _free_slots(self) -> int:
        if self._bench is None or self._draining or self._leaving or not self._heart.lease.holds(monotonic()):
            return 0
        return max(0, self._identity.spec.slots - len(self._runs))

    async def _on_control(self, message: Msg) -> None:
        try:
            control: Control = _controls.decode(message.data)
        except msgspec.DecodeError:
            _log.exception("a control message cannot be read")
            return
        match control:
            case CancelRun():
                if (run := self._runs.get(control.token)) is not None:
                    run.stop(Why.CANCELLED)
            case Drain():
                self.drain()

    def _bench_for(self, engine: Engine | None) -> Bench | None:
        if engine is None:
            return None
        return Bench(
            bot_id=self._identity.bot_id,
            engine=engine,
            workspace=self._identity.workspace,
            reports=Reports(self._connection, self._identity.bot_id),
            publish=self._publish_live,
        )

    @property
    def _is_idle(self) -> bool:
        return not self._runs and self._mailbox.is_idle

    async def _publish_live(self, chunk: Chunk) -> None:
        with contextlib.suppress(Unavailable):  # a reader gets the whole result from the report
            subject = live_subject(self._identity.bot_id, chunk.task_id)
            await self._connection.publish(subject, encode(chunk))

    async def _see_closed(self) -> None:
        await self._connection.closed.wait()
        _log.error("the broker does not let this bot in any more")
        self.leave()

    def _look(self) -> None:
        """Something changed: ask for as much as fits now, and let who waits look again."""
        free = self._free_slots()
        if self._pull.want != free:
            self._pull.want = free
        self._changed.set()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._changed.clear()
            await self._changed.wait()


def rss_bytes(statm: int) -> int:
    """The memory that a process has in use, shared or not, from its open `/proc/…/statm`."""
    return int(os.pread(statm, 128, 0).split()[1]) * PAGE_BYTES


def build_engine(identity: Identity) -> Engine:
    """The engine of its spec; measures the box for programs if its host has not."""
    mechanism = identity.sandbox
    if identity.spec.engine == "echo":
        report = SandboxReport("none", ())
    else:
        report = SandboxReport(mechanism, ()) if mechanism is not None else sandbox_report()
    environment = program_environment(identity.spec, identity.environment)
    room = Room(
        sandbox=report,
        hidden=tuple(folder.resolve() for folder in identity.hidden),
        readable=readable(environment, identity.settings.sandbox_read),
        tmp=identity.settings.data.resolve() / "tmp" / identity.bot_id,
        memory_mb=identity.spec.memory_mb,
    )
    shutil.rmtree(room.tmp, ignore_errors=True)  # of a process before us that was killed
    return choose(identity.spec, Programs(environment, room), identity.settings.shell_allow)


async def run(
    identity: Identity,
    engine: Engine | None,
    on_message: OnMessage | None = None,
    on_begin: Callable[[BotProcess], None] | None = None,
) -> bool:
    """Connect and work until told to leave; False when the broker does not let it in."""
    connection = await connect(identity.settings)
    try:
        process = BotProcess(identity, engine, connection, on_message)
        if on_begin is not None:
            on_begin(process)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.on_stop_signal)
        return await process.live()
    finally:
        await connection.close()


def main() -> int:
    """A bot's process, as its host starts it."""
    try:
        identity = identities.load()
        settings = identity.settings
        start_logging(settings.sender, settings.instance, settings.log_level)
        engine = build_engine(identity)
    except (SettingsError, Rejected) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            told = runner.run(run(identity, engine))
        except Unavailable as error:
            _log.error("%s", error)
            return WRONG
    return 0 if told else WRONG


if __name__ == "__main__":
    sys.exit(main())
