"""The hive's own broker: started on its store, started again on the same ports when it ends."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from cli import ports, probing
from cli.data_dir import DataDir
from cli.plan import STEADY_AFTER_S, Plan, backoff_s
from shared.runtime import clock
from shared.runtime.broker import BrokerConfig, BrokerError, BrokerProcess, read_stuck
from shared.runtime.credentials import Authority

LOOK_EVERY_S: Final = 1.0
ROOM_BYTES: Final = 64 * 1024 * 1024  # free before a server that met a full disk is started again
ROOM_SHARE: Final = 0.1  # of a small disk, less will do


class Broker:
    """nats-server under watch. Made in the main thread: the server ends with the thread that started it."""

    def __init__(self, plan: Plan, authority: Authority, say: Callable[[str], None]) -> None:
        data = DataDir(plan.data)
        self._held = (ports.reserve_broker_port(), ports.reserve())
        self._config = BrokerConfig(
            authority=authority,
            store_dir=data.broker / "store",
            durability=plan.durability,
            port=ports.port_of(self._held[0]),
            monitor_port=ports.port_of(self._held[1]),
        )
        self._say = say
        self._folder = data.broker
        self._log = data.log_of("nats-server")
        self._process = self._start()
        self._started_at = clock.monotonic()
        self._crashes = 0
        self._stopping = False
        self._was_stuck = False

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._process.url

    @property
    def monitor_url(self) -> str:
        """Where it says how it is."""
        return self._process.monitor_url

    def _start(self) -> BrokerProcess:
        return BrokerProcess.start(self._config, self._folder, self._log)

    async def until_ready(self) -> None:
        """Return when it serves clients; BrokerError when it will not."""
        await asyncio.to_thread(self._process.wait_ready)

    async def keep_running(
        self, changed: Callable[[], None], after_full_disk: Callable[[], Awaitable[None]]
    ) -> None:
        """Start it again whenever it ends, or has stopped to store and there is room again; for ever."""
        while True:
            async with asyncio.TaskGroup() as watches:
                beside = [watches.create_task(self._see_stuck())]
                if self._was_stuck:
                    beside.append(watches.create_task(self._follow_up(after_full_disk)))
                await probing.gone(self._process.pid)
                for task in beside:
                    task.cancel()
            if self._stopping:
                return
            await self._start_again(changed)

    async def _follow_up(self, after_full_disk: Callable[[], Awaitable[None]]) -> None:
        """What is owed since a full disk; begun again if the server ends before that is done."""
        self._was_stuck = False
        try:
            await after_full_disk()
        except asyncio.CancelledError:
            self._was_stuck = True
            raise

    async def _see_stuck(self) -> None:
        """End a server that met a full disk, once there is room: only a new one stores again."""
        while (why := await asyncio.to_thread(read_stuck, self._process.monitor_url)) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)  # another process will know; there is no event to wait for
        self._say(
            f"the broker stores no more: {why}; free space under {self._folder}, then it goes on by itself"
        )
        self._was_stuck = True
        while not has_room(self._folder):  # noqa: ASYNC110 - the same
            await asyncio.sleep(LOOK_EVERY_S)
        self._say("there is room again: nats-server is started anew")
        self._started_at = -STEADY_AFTER_S  # not a crash
        await asyncio.to_thread(self._process.stop)

    async def _start_again(self, changed: Callable[[], None]) -> None:
        steady = clock.monotonic() - self._started_at > STEADY_AFTER_S
        self._crashes = 1 if steady else self._crashes + 1
        wait_s = backoff_s(self._crashes)
        self._say(f"nats-server ended; starting it again on its store in {wait_s:g} s (log: {self._log})")
        await asyncio.sleep(wait_s)
        if self._stopping:
            return
        self._process.kill()  # it has ended: this only takes note of how, or a zombie would stay
        self._process = self._start()
        self._started_at = clock.monotonic()
        try:
            await self.until_ready()
        except BrokerError as error:
            self._say(str(error))
            self._process.kill()
            return
        changed()
        took_s = clock.monotonic() - self._started_at
        self._say(f"nats-server is ready again after {took_s:.1f} s (pid {self._process.pid})")

    async def stop(self) -> None:
        """End it in order; what was acknowledged is on disk."""
        self._stopping = True
        if self._process.running:
            await asyncio.to_thread(self._process.stop)
        for port in self._held:
            port.close()

    def kill(self) -> None:
        """End it at once."""
        self._stopping = True
        self._process.kill()
        for port in self._held:
            port.close()


def has_room(folder: Path) -> bool:
    """Whether a server can store for a while there."""
    usage = shutil.disk_usage(folder)
    return usage.free >= min(ROOM_BYTES, usage.total * ROOM_SHARE)
