"""The bot host: makes it so that the bots that shall run on this machine do, and no others."""

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

import msgspec
import psutil
from nats.aio.msg import Msg  # noqa: TID251

from bots.engines.choice import ENGINES, EXTERNAL
from bots.launch import LIMITS, Ground, check, environment, log_of
from bots.nursery import Forks
from bots.post import letter, store
from bots.runtime import rss_bytes
from bots.users import Users
from shared.contracts.naming import host_report_subject, host_subject
from shared.contracts.orchestrator.commands import ReportBotExit
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import (
    HostAnswer,
    HostOrder,
    HostReport,
    RetireOrder,
    Running,
    StartOrder,
    StopOrder,
)
from shared.contracts.words import BotId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected, Unavailable
from shared.runtime import private
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection
from shared.runtime.ids import derived_id
from shared.runtime.zygote import Exit

REPORT_EVERY_S: Final = 1.0
LAST_WORDS_S: Final = 2.0  # from the second SIGTERM, which says that the grace is over, to SIGKILL
REPLACED_GRACE_S: Final = 2.0
LOG_BYTES_MAX: Final = 10_000_000  # then the log is put aside at the next start; one old one is kept
NEWEST_WEIGHS: Final = 0.3  # of the newest look at the processors
TARGET: Final = "bots.runtime:main"

_orders = msgspec.json.Decoder(StartOrder | StopOrder | RetireOrder)
_log = logging.getLogger(__name__)


class Cpu:
    """How busy the machine's processors are: of the time between two looks, smoothed over some five of them.

    One bot's start is a second of work, and no reason not to start the next one.
    """

    def __init__(self) -> None:
        self._times = psutil.cpu_times()
        self._share: float | None = None

    def share(self) -> float | None:
        """0 to 1; None until time has passed."""
        before, self._times = self._times, psutil.cpu_times()
        spent = [now - then for now, then in zip(self._times[:8], before[:8], strict=True)]
        whole, rest = sum(spent), self._times.idle - before.idle
        if hasattr(before, "iowait"):
            rest += self._times.iowait - before.iowait
        if whole > 0:
            now = min(1.0, max(0.0, 1 - rest / whole))
            self._share = now if self._share is None else self._share + NEWEST_WEIGHS * (now - self._share)
        return None if self._share is None else round(self._share, 4)


@dataclass
class Child:
    """A bot's process. Once it was told to stop, `ending` are the signals to come, the last at `ends_at`."""

    bot_id: BotId
    generation: int
    pid: int
    ending: list[asyncio.TimerHandle] = field(default_factory=list)
    ends_at: float = math.inf
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Host:
    """Takes orders, as often as they come; says each second what runs, and at once what ended.

    `revoke` has the broker forget users, by their public keys.
    """

    def __init__(
        self,
        ground: Ground,
        connection: Connection,
        zygote: Forks,
        users: Users,
        revoke: Callable[[str], Awaitable[None]],
    ) -> None:
        self._ground = ground
        self._connection = connection
        self._zygote = zygote
        self._users = users
        self._revoke = revoke
        self._children: dict[BotId, Child] = {}
        self._letters: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._cpu = Cpu()
        self._group: asyncio.TaskGroup

    async def serve(self, stop: asyncio.Event, grace_s: float) -> bool:
        """Work until `stop`, then end every bot within the grace; False when the zygote ended first."""
        async with asyncio.TaskGroup() as self._group:
            settings = self._ground.settings
            orders = await self._connection.subscribe(host_subject(settings.host_id), self._on_message)
            reporting = self._group.create_task(self._report_for_ever())
            hearing = self._group.create_task(self._hear_exits())
            stopping = self._group.create_task(stop.wait())
            await asyncio.wait([hearing, stopping], return_when=asyncio.FIRST_COMPLETED)
            asked = not hearing.done()
            with contextlib.suppress(Unavailable, OSError):
                await orders.unsubscribe()
            await self.stop_all(grace_s)
            if self._letters:
                await asyncio.wait(self._letters, timeout=LAST_WORDS_S)
            for task in (reporting, hearing, stopping, *self._letters):
                task.cancel()
        return asked

    async def obey(self, order: HostOrder) -> HostAnswer:
        """Begin to make it so; the same order again is answered alike, and changes nothing."""
        async with self._turn:
            try:
                match order:
                    case StartOrder():
                        await self._start(order)
                    case StopOrder():
                        self._stop(order.bot_id, order.generation, order.grace_s)
                    case RetireOrder():
                        await self._retire(order)
                    case _:
                        assert_never(order)
            except Rejected as rejected:
                return HostAnswer(ok=False, code=rejected.code, detail=rejected.detail)
        return HostAnswer(ok=True)

    async def stop_all(self, grace_s: float) -> None:
        """End every bot: they get the grace to finish, and are killed after it."""
        for child in list(self._children.values()):
            self._stop(child.bot_id, child.generation, grace_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + LAST_WORDS_S):
                for child in list(self._children.values()):
                    await child.ended.wait()

    def report(self) -> HostReport:
        """What runs now."""
        running = [
            Running(
                bot_id=child.bot_id,
                generation=child.generation,
                pid=child.pid,
                rss_bytes=_rss_bytes(child.pid),
            )
            for child in self._children.values()
        ]
        return HostReport(
            host_id=self._ground.settings.host_id,
            running=tuple(running),
            engines=(*ENGINES, EXTERNAL),
            cpu_share=self._cpu.share(),
            memory_share=round(psutil.virtual_memory().percent / 100, 4),
        )

    async def _on_message(self, message: Msg) -> None:
        try:
            answer = await self.obey(_orders.decode(message.data))
        except msgspec.DecodeError as error:
            answer = HostAnswer(ok=False, code="order_invalid", detail=str(error))
        except (Unavailable, OSError) as error:  # no answer: the order is repeated
            _log.warning("an order could not be followed now: %s", error)
            return
        if not answer.ok:
            _log.warning("an order is refused: %s: %s", answer.code, answer.detail)
        await self._connection.publish(message.reply, encode(answer))

    async def _start(self, order: StartOrder) -> None:
        child = self._children.get(order.bot_id)
        if child is not None:
            if child.generation < order.generation:
                self._stop(child.bot_id, child.generation, REPLACED_GRACE_S)
            return  # it runs, or the order comes again when the old one is gone
        if is_external(order.spec):
            self._users.creds(order.bot_id)
            return
        workspace = check(self._ground, order)
        creds = self._users.creds(order.bot_id)
        log = log_of(self._ground.settings, order.bot_id)
        private.make_folder(log.parent)
        _put_aside(log)
        pid = await self._zygote.fork(
            f"bot {order.bot_id}",
            TARGET,
            env=environment(self._ground, order, creds),
            stdout=log,
            cwd=workspace,
            limits=LIMITS,
        )
        self._children[order.bot_id] = Child(order.bot_id, order.generation, pid)

    def _stop(self, bot_id: BotId, generation: int, grace_s: float) -> None:
        """SIGTERM; a second one when its time is almost over; then SIGKILL to all of its group."""
        child = self._children.get(bot_id)
        ends_at = monotonic() + grace_s
        if child is None or child.generation > generation or child.ends_at <= ends_at:
            return  # told again, it has no more time than when it was told first
        child.ends_at = ends_at
        if not child.ending:
            _signal(child.pid, signal.SIGTERM)
        for signal_to_come in child.ending:
            signal_to_come.cancel()
        loop = asyncio.get_running_loop()
        child.ending = [
            loop.call_later(max(0.0, grace_s - LAST_WORDS_S), _signal, child.pid, signal.SIGTERM),
            loop.call_later(grace_s, _kill_group, child.pid),
        ]

    async def _retire(self, order: RetireOrder) -> None:
        child = self._children.get(order.bot_id)
        if child is not None and child.generation > order.generation:
            return
        if child is not None:
            self._stop(order.bot_id, order.generation, REPLACED_GRACE_S)
            await child.ended.wait()
        for key in self._users.keys(order.bot_id):
            await self._revoke(key)
        self._users.forget(order.bot_id)

    async def _hear_exits(self) -> None:
        async for end in self._zygote.exits():
            self._on_exit(end)
        _log.error("the zygote ended, and every bot with it")
        for child in list(self._children.values()):
            self._on_exit(Exit(pid=child.pid, signal=signal.SIGKILL))

    def _on_exit(self, end: Exit) -> None:
        child = next((child for child in self._children.values() if child.pid == end.pid), None)
        if child is None:
            return
        del self._children[child.bot_id]
        child.ended.set()
        for signal_to_come in child.ending:
            signal_to_come.cancel()
        _log.info("bot %s ended: %s", child.bot_id, end.reason)
        said = self._group.create_task(self._report_exit(child, end.reason))
        self._letters.add(said)
        said.add_done_callback(self._letters.discard)

    async def _report_exit(self, child: Child, reason: str) -> None:
        command = ReportBotExit(bot_id=child.bot_id, generation=child.generation, reason=reason)
        command_id = derived_id("bot-exit", child.bot_id, str(child.generation), str(child.pid))
        sender = self._ground.settings.sender
        await store(self._connection, letter(command, sender=sender, command_id=command_id, chain=command_id))

    async def _report_for_ever(self) -> None:
        subject = host_report_subject(self._ground.settings.host_id)
        while True:
            if self._connection.connected:  # kept for later it would say what is no longer so
                with contextlib.suppress(Unavailable):
                    await self._connection.publish(subject, encode(self.report()))
            await asyncio.sleep(REPORT_EVERY_S)


def is_external(spec: BotSpec) -> bool:
    """Whether somebody else runs it: it gets credentials, no process."""
    return EXTERNAL in (spec.engine, spec.host)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _rss_bytes(pid: int) -> int:
    try:
        statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0  # it just ended
    try:
        return rss_bytes(statm)
    except ProcessLookupError:
        return 0
    finally:
        os.close(statm)


def _put_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
