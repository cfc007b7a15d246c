"""`hive up`: one broker, one process for each service, watched until a signal, then stopped in order."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from cli import probing
from cli.broker import Broker
from cli.data_dir import DataDir, Running
from cli.failure import Exit, Failure
from cli.plan import Plan
from cli.processes import Processes
from shared.kernel.errors import Unavailable
from shared.runtime import revocation, topology
from shared.runtime.broker import BrokerError
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.credentials import Authority, CredentialsError
from shared.runtime.permissions import OPS, SYSTEM_SENDER
from shared.runtime.prepare import hand_out_after_restart, hand_out_again, prepare
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from bots.sandbox import SandboxReport

WRITE_AGAIN_S: Final = 2.0
SERVICES: Final = ("gateway", "orchestrator", "messenger", "scheduler")


class Supervisor:
    """One embedded hive. What ends is started again; a signal ends it in order, a second one at once."""

    def __init__(
        self,
        plan: Plan,
        authority: Authority | None,
        processes: Processes,
        first: Running,
        *,
        say: Callable[[str], None],
        on_ready: Callable[[Running], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._data = DataDir(plan.data)
        self._authority = authority
        self._processes = processes
        self._first = first
        self._say = say
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._signals = 0
        self._failure: Failure | None = None
        self._broker: Broker | None = None
        self._connections: list[Connection] = []
        self._ready = False

    async def run(self) -> None:
        """Start everything, keep it running until a signal, stop it. Failure when it could not be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(self._start(tasks))
                await self._stop.wait()
                starting.cancel()
                await self._drain()
                raise _Stopped  # noqa: TRY301 - ends what still watches
        except* _Stopped:
            pass
        finally:
            self._data.forget_running()
            self._kill()
            self._processes.close()
        if self._failure is not None:
            raise self._failure

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._say("stopping; once more ends it at once")
            self._stop.set()
        else:
            self._kill()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        try:
            nats_url = await self._start_broker(tasks)
            ops = await self._connect(nats_url, OPS)
            await prepare(ops, services=SERVICES, replicas=self._plan.replicas)
            await hand_out_again(ops, services=SERVICES)
            await self._processes.start(nats_url, tasks, self.write_running)
            await self._serve_revocations(ops, nats_url)
        except (BrokerError, BrokerRefused, CredentialsError, Unavailable, topology.Drift) as error:
            self._fail(error)
            return
        await self._processes.until_ready()
        key = await asyncio.to_thread(self._data.admin_key.read_text)
        await probing.until_open(self._first.host, self._first.port, key.strip())
        self._ready = True
        self.write_running()
        await self._on_ready(self.running())

    async def _start_broker(self, tasks: asyncio.TaskGroup) -> str:
        if self._plan.nats_url is not None:
            return self._plan.nats_url
        assert self._authority is not None, "an own broker has an own authority"
        self._broker = Broker(self._plan, self._authority, self._say)
        await self._broker.until_ready()
        tasks.create_task(self._broker.keep_running(self.write_running, self._after_full_disk))
        return self._broker.url

    async def _after_full_disk(self) -> None:
        """What the broker may have kept of commands that were decided is decided again: already so."""
        try:
            await hand_out_after_restart(self._connections[0], services=SERVICES)
        except (BrokerRefused, Unavailable) as error:
            self._say(f"what lies in the queues could not be handed out again: {error}; restart the hive")

    async def _connect(self, nats_url: str, sender: str) -> Connection:
        settings = Settings(
            sender=sender,
            instance="supervisor",
            data=self._plan.data,
            nats_url=nats_url,
            creds=self._plan.creds(sender),
        )
        connection = await connect(settings)
        self._connections.append(connection)
        return connection

    async def _serve_revocations(self, ops: Connection, nats_url: str) -> None:
        """Who holds the account's key cuts off the users of retired bots."""
        if self._authority is not None:
            system = await self._connect(nats_url, SYSTEM_SENDER)
            await revocation.serve_revocations(ops, system, self._authority)

    def _fail(self, error: Exception) -> None:
        drift = isinstance(error, topology.Drift)
        self._failure = Failure(
            "The hive could not be started.",
            exit_code=Exit.REFUSED if drift else Exit.FAILED,
            code="drift" if drift else "start_failed",
            why=str(error),
            todo=f"`hive doctor` says what is wrong; the logs are in {self._data.logs}.",
        )
        self._stop.set()

    async def _drain(self) -> None:
        """No new work, what runs comes to its end and is recorded, then the broker."""
        await self._processes.stop()
        self._processes.close()
        for connection in self._connections:
            await connection.close(drain=False)
        if self._broker is not None:
            self._say("stopping nats-server …")
            await self._broker.stop()

    def _kill(self) -> None:
        """No more patience: the drain that goes on finds everything ended."""
        self._processes.kill()
        if self._broker is not None:
            self._broker.kill()

    def running(self) -> Running:
        """Where the hive is found, now."""
        return msgspec.structs.replace(
            self._first,
            nats_url=self._broker.url if self._broker else self._first.nats_url,
            monitor_url=self._broker.monitor_url if self._broker else None,
            broker_pid=self._broker.pid if self._broker else None,
            zygote_pid=self._processes.zygote_pid,
            zygote_started=self._processes.zygote_started,
            services=self._processes.pids,
            probes=self._processes.probes,
            ready=self._ready,
        )

    def write_running(self) -> None:
        """Say where the hive is found; written again whenever a process id is new, and until it could be."""
        try:
            self._data.write_running(self.running())
        except OSError as error:  # the disk is full: that must not end what still works
            self._say(f"{self._data.running_file} cannot be written now: {error.strerror}")
            asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._write_again)

    def _write_again(self) -> None:
        if not self._stop.is_set():
            self.write_running()


def sandbox_report(wanted: str | None) -> "SandboxReport":
    """How programs that bots run are kept from the data directory: measured now, in a few short processes."""
    from bots import sandbox  # noqa: PLC0415 - only the doctor asks

    return sandbox.sandbox_report(wanted)


class _Stopped(Exception):
    """All is stopped: what still watches is to end."""
