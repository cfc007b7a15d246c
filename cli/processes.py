"""The services as processes: started from the zygote, started again when they end, stopped in order."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psutil

from cli import ports, probing
from cli.data_dir import DataDir
from cli.logs import last_word
from cli.plan import STEADY_AFTER_S, Plan, Service, backoff_s
from shared.kernel.errors import Unavailable
from shared.runtime import clock
from shared.runtime.zygote import Exit, Zygote

SLOW_START_S: Final = 5.0  # a service that is not ready by then says why
HTTP_FD: Final = "HIVE_HTTP_FD"


@dataclass
class Child:
    """One service, the process that runs it now, and its probe port, which is kept for it."""

    service: Service
    probe: socket.socket
    pid: int | None = None
    started_at: float = 0.0
    crashes: int = 0
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.probe_port = ports.port_of(self.probe)


class Processes:
    """All services of one hive. `say` tells a person what happens to them."""

    def __init__(
        self,
        plan: Plan,
        zygote: Zygote,
        *,
        make_zygote: Callable[[], Zygote],
        http: socket.socket,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._data = DataDir(plan.data)
        self._zygote = zygote
        self._zygote_started = psutil.Process(zygote.pid).create_time()
        self._make_zygote = make_zygote
        self._http = http
        self._nats_url = ""
        self._tasks: asyncio.TaskGroup
        self._say = say
        self._changed: Callable[[], None] = lambda: None
        self._stopping = False
        self.children = {service.name: Child(service, ports.reserve()) for service in plan.services}

    @property
    def pids(self) -> dict[str, int]:
        """The services that run now."""
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    @property
    def zygote_pid(self) -> int:
        """The process they are forked from."""
        return self._zygote.pid

    @property
    def zygote_started(self) -> float:
        """When it was; with its number, that names it."""
        return self._zygote_started

    @property
    def probes(self) -> dict[str, str]:
        """Where each service says how it is."""
        return {name: f"http://{ports.LOOPBACK}:{child.probe_port}" for name, child in self.children.items()}

    async def start(
        self, nats_url: str, tasks: asyncio.TaskGroup, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Start every service; they get ready side by side.

        They are watched in `tasks`; `changed` is called whenever a process id is new.
        """
        self._changed = changed
        self._nats_url = nats_url
        self._tasks = tasks
        self._tasks.create_task(self._watch())
        for child in self.children.values():
            await self._fork(child)

    async def until_ready(self) -> None:
        """Return when every service is ready; who takes long is named, with its reason."""
        async with asyncio.TaskGroup() as waiting:
            for child in self.children.values():
                waiting.create_task(self._until_ready(child))

    async def stop(self) -> None:
        """Stop every service in the plan's order, each when the one before has ended. Harmless to repeat."""
        self._stopping = True
        for name in self._plan.stop_order:
            await self._end(self.children[name])

    def kill(self) -> None:
        """No more patience: end every service at once."""
        self._stopping = True
        for child in self.children.values():
            _signal(child, signal.SIGKILL)

    def close(self) -> None:
        """Let the zygote go, and with it whatever still runs."""
        self._stopping = True
        self._zygote.close()
        for child in self.children.values():
            child.probe.close()

    async def _fork(self, child: Child) -> None:
        service = child.service
        child.pid = await self._zygote.fork(
            service.name,
            service.target,
            env=self._plan.env_of(service, nats_url=self._nats_url, probe_port=child.probe_port),
            stdout=self._data.log_of(service.name),
            fds={HTTP_FD: self._http.fileno()} if service.holds_http else {},
        )
        child.started_at = clock.monotonic()
        child.ended.clear()
        child.ready.clear()
        self._changed()
        self._tasks.create_task(self._note_ready(child, child.pid))

    async def _note_ready(self, child: Child, pid: int) -> None:
        while child.pid == pid:
            if not await probing.problems(ports.LOOPBACK, child.probe_port):
                if child.crashes:
                    self._say(f"{child.service.name} is ready again after {_since(child):.1f} s (pid {pid})")
                child.ready.set()
                return
            await asyncio.sleep(probing.POLL_S)

    async def _until_ready(self, child: Child) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SLOW_START_S):
                    await child.ready.wait()
                    return
            told = await probing.problems(ports.LOOPBACK, child.probe_port)
            if told:
                log = self._data.log_of(child.service.name)
                self._say(f"{child.service.name} is not ready yet: {'; '.join(told)} (log: {log})")

    async def _watch(self) -> None:
        """Start again what ends, for ever; when the zygote itself ends, start from a new one."""
        while True:
            async for end in self._zygote.exits():
                self._on_end(end)
            if self._stopping:
                for child in self.children.values():
                    self._note_end(child)
                return
            await self._replace_zygote()

    def _on_end(self, end: Exit) -> None:
        child = next((child for child in self.children.values() if child.pid == end.pid), None)
        if child is None:
            return
        self._note_end(child)
        if not self._stopping:
            self._tasks.create_task(self._start_again(child, end.reason))

    def _note_end(self, child: Child) -> None:
        child.crashes = 1 if _since(child) > STEADY_AFTER_S else child.crashes + 1
        child.pid = None
        child.ended.set()
        child.ready.clear()
        self._changed()

    async def _start_again(self, child: Child, reason: str) -> None:
        wait_s = backoff_s(child.crashes)
        name = child.service.name
        log = self._data.log_of(name)
        said = f": {last_word(log)}" if reason.startswith("exit") else ""
        self._say(f"{name} ended ({reason}{said}); starting it again in {wait_s:g} s (log: {log})")
        await asyncio.sleep(wait_s)
        async with child.starting:
            if child.pid is None and not self._stopping:
                with contextlib.suppress(Unavailable):  # the zygote is gone: its successor starts them all
                    await self._fork(child)

    async def _replace_zygote(self) -> None:
        self._say("the zygote ended, and every service with it; starting them again")
        for child in self.children.values():
            if child.pid is not None:
                await probing.gone(child.pid)
                self._note_end(child)
        self._zygote.close()
        self._zygote = self._make_zygote()
        self._zygote_started = psutil.Process(self._zygote.pid).create_time()
        for child in self.children.values():
            self._tasks.create_task(self._start_again(child, "its zygote ended"))

    async def _end(self, child: Child) -> None:
        if child.pid is None:
            return
        self._say(f"stopping {child.service.name} …")
        _signal(child, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(child.service.grace_s):
                await child.ended.wait()
                return
        self._say(f"{child.service.name} did not stop within {child.service.grace_s:g} s and is killed")
        _signal(child, signal.SIGKILL)
        await child.ended.wait()


def _signal(child: Child, number: int) -> None:
    if child.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)


def _since(child: Child) -> float:
    return clock.monotonic() - child.started_at
