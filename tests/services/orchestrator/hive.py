"""A real broker, the orchestrator as its own process, and everybody else played with bare nats-py."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.contracts import naming
from shared.contracts.orchestrator.commands import ClaimTask, Done, LaunchBot, ReportBotExit, ReportTask
from shared.contracts.orchestrator.facts import BotSpec, Output
from shared.contracts.orchestrator.protocol import (
    Assignment,
    Heartbeat,
    HeartbeatAnswer,
    Held,
    HostAnswer,
    HostReport,
    RetireOrder,
    Running,
    StartOrder,
    StopOrder,
)
from shared.contracts.orchestrator.queries import BotDoc, GetBot
from shared.contracts.words import BotId
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Command, Committed, Envelope, Outcome
from shared.runtime.clock import now
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.ids import new_id
from shared.runtime.publish import Publisher
from shared.runtime.queries import Asker
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[3]
WITHIN_S = 20.0
_orders = msgspec.json.Decoder(StartOrder | StopOrder | RetireOrder)
_answers = msgspec.json.Decoder(HeartbeatAnswer)
_assignments = msgspec.json.Decoder(Assignment)


class Host:
    """A bot host that runs nothing: it notes what it is told to run, and reports that."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.running: dict[BotId, int] = {}
        self.retired: list[BotId] = []
        self.orders: list[str] = []
        self.starts = True

    async def open(self) -> None:
        await self._client.subscribe(naming.host_subject("local"), cb=self._on_order)

    async def report(self) -> None:
        running = tuple(
            Running(bot_id=bot_id, generation=generation, pid=1)
            for bot_id, generation in self.running.items()
        )
        report = HostReport(host_id="local", running=running, engines=("echo", "external"))
        await self._client.publish(naming.host_report_subject("local"), encode(report))

    async def exit_of(self, bot_id: BotId, reason: str = "signal 9") -> None:
        """Report that its process ended."""
        exit_of = ReportBotExit(bot_id=bot_id, generation=self.running.pop(bot_id), reason=reason)
        await publish_command(self._client, "svc-bots", exit_of)

    async def _on_order(self, message: Msg) -> None:
        order = _orders.decode(message.data)
        match order:
            case StartOrder():
                self.orders.append(f"start {order.bot_id} {order.generation}")
                if self.starts:
                    self.running[order.bot_id] = order.generation
            case StopOrder():
                self.running.pop(order.bot_id, None)
            case RetireOrder():
                self.running.pop(order.bot_id, None)
                self.retired.append(order.bot_id)
        await message.respond(encode(HostAnswer(ok=True)))


class Bot:
    """A bot in a few lines of bare nats-py."""

    def __init__(self, client: Client, bot_id: BotId, generation: int = 1) -> None:
        self._client = client
        self.bot_id = bot_id
        self.generation = generation
        self.held: dict[int, Assignment] = {}
        self._beating: asyncio.Task[None] | None = None

    async def beat(self) -> HeartbeatAnswer:
        """One heartbeat, and what the orchestrator answers."""
        heartbeat = Heartbeat(
            bot_id=self.bot_id,
            generation=self.generation,
            pid=os.getpid(),
            host="local",
            held=tuple(Held(task_id=each.task_id, token=token) for token, each in self.held.items()),
        )
        answer = await self._client.request(
            naming.heartbeat_subject(self.bot_id), encode(heartbeat), timeout=5
        )
        return _answers.decode(answer.data)

    def keep_beating(self) -> None:
        """From now on it beats by itself, every half second."""
        self._beating = asyncio.get_running_loop().create_task(self._beat_on())

    async def _beat_on(self) -> None:
        while True:
            with suppress(NatsError):
                await self.beat()
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    async def claim(self, assignment: Assignment) -> Outcome:
        """Ask whether it may begin work that must not be done twice."""
        claim = ClaimTask(task_id=assignment.task_id, bot_id=self.bot_id, token=assignment.token)
        return await publish_command(self._client, naming.bot_sender(self.bot_id), claim)

    async def file(self, verb: str, data: bytes, assignment: Assignment) -> Msg:
        """Ask for a file, or have one kept."""
        headers = {"Hive-Task": assignment.task_id, "Hive-Token": str(assignment.token)}
        subject = naming.file_subject(self.bot_id, verb)
        return await self._client.request(subject, data, timeout=10, headers=headers)

    async def take(self) -> Assignment:
        """Wait for an assignment, take it and name it."""
        inbox = self._client.new_inbox()
        arrived = await self._client.subscribe(inbox)
        consumer = naming.bot_consumer(self.bot_id)
        pull = b'{"batch":1,"expires":10000000000}'
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{naming.DISPATCH}.{consumer}", pull, reply=inbox
        )
        message = await arrived.next_msg(timeout=10)
        assert not (message.headers or {}).get("Status"), message.headers
        await message.ack()
        await arrived.unsubscribe()
        assignment = _assignments.decode(message.data)
        self.held[assignment.token] = assignment
        await self.beat()
        return assignment

    async def finish(self, assignment: Assignment, text: str = "ok") -> Outcome:
        """Report the end, and hear what its owner says to it."""
        self.held.pop(assignment.token, None)
        report = ReportTask(
            task_id=assignment.task_id,
            bot_id=self.bot_id,
            token=assignment.token,
            started_at=now(),
            ended_at=now(),
            end=Done(output=Output(text=text, size_bytes=len(text))),
        )
        return await publish_command(self._client, naming.bot_sender(self.bot_id), report)


async def publish_command(client: Client, sender: str, command: Command) -> Outcome:
    """A command the way any client sends one."""
    inbox = client.new_inbox()
    answered = await client.subscribe(inbox)
    envelope = Envelope(id=new_id(), chain=new_id(), actor=sender, command=msgspec.Raw(encode(command)))
    await client.publish(
        naming.command_subject(command.service, sender, command.key),
        encode(envelope),
        headers={naming.REPLY_HEADER: inbox, "Nats-Msg-Id": envelope.id},
    )
    message = await answered.next_msg(timeout=10)
    await answered.unsubscribe()
    return msgspec.json.decode(message.data, type=Outcome)  # type: ignore[return-value, arg-type]


class Hive:
    """Everything a test needs of a running orchestrator."""

    def __init__(self, broker: LocalBroker, gateway: Connection, host: Host) -> None:
        self.broker = broker
        self.host = host
        self.ask = Asker(gateway)
        self.send: Sender
        self._gateway = gateway
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_orchestrator(self, instance: str = "one") -> subprocess.Popen[bytes]:
        settings = self.broker.settings("svc-orchestrator")
        assert settings.creds is not None
        with (self.broker.folder / f"orchestrator-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.orchestrator"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "HIVE_NATS_URL": self.broker.url,
                    "HIVE_CREDS": str(settings.creds),
                    "HIVE_DATA": str(settings.data),
                    "HIVE_INSTANCE": instance,
                },
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def end_orchestrators(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Hosts report meanwhile; the check is asked again and again, WITHIN_S at most."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    if await check():
                        return
                except Unavailable:
                    pass
                await self.host.report()
                await asyncio.sleep(0.05)

    async def committed(self, command: Command) -> int:
        outcome = await self.send(command, actor="key-1", wait_s=WITHIN_S)
        assert isinstance(outcome, Committed), outcome
        return outcome.sequence

    async def bot(self, bot_id: str) -> BotDoc:
        return await self.ask(GetBot(bot_id=BotId(bot_id)))

    @asynccontextmanager
    async def launched(self, bot_id: str, spec: BotSpec | None = None) -> AsyncIterator[Bot]:
        """A bot that is up, and beats by itself."""
        await self.committed(LaunchBot(bot_id=BotId(bot_id), spec=spec or BotSpec(engine="echo")))

        async def ordered() -> bool:
            return any(order.startswith(f"start {bot_id} ") for order in self.host.orders)

        await self.until(ordered)
        async with self.broker.client(naming.bot_sender(bot_id)) as client:
            bot = Bot(client, BotId(bot_id), self.host.running.get(BotId(bot_id), 1))

            async def is_up() -> bool:
                await bot.beat()
                return (await self.bot(bot_id)).state in ("idle", "busy")

            await self.until(is_up)
            try:
                yield bot
            finally:
                await bot.close()


@asynccontextmanager
async def hive(folder: Path) -> AsyncIterator[Hive]:
    """A broker with its topology, a host, a gateway; start the orchestrator yourself."""
    broker = LocalBroker(folder)
    try:
        ops = await connect(broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        gateway = await connect(broker.settings("gateway"))
        publisher = Publisher(gateway)
        await publisher.start()
        async with broker.client("svc-bots") as client:
            host = Host(client)
            await host.open()
            hive = Hive(broker, gateway, host)
            hive.send = Sender(gateway, publisher)
            await hive.send.start()
            try:
                yield hive
            finally:
                hive.end_orchestrators()
        await publisher.stop()
        await gateway.close()
    finally:
        broker.close()
