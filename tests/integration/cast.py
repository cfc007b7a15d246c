"""Real orchestrators as processes on a real broker, and a gateway's voice to talk to them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from services.orchestrator.facts import TASK_CODEC
from shared.contracts.naming import command_consumer, command_stream, stored_command_filters
from shared.contracts.orchestrator.commands import SubmitTask
from shared.contracts.orchestrator.facts import TaskFact
from shared.contracts.words import PARTITIONS, TaskId
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.directget import every
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[2]
SERVICE = "orchestrator"
READY_WITHIN_S = 30.0


class Actor:
    """One orchestrator process."""

    def __init__(self, broker: LocalBroker, colour: str, instance: str) -> None:
        self.folder = broker.folder / instance
        self.folder.mkdir()
        self._log = self.folder / "log"
        self.probe = f"http://127.0.0.1:{_free_port()}"
        env = {
            "PATH": os.environ["PATH"],
            "HIVE_NATS_URL": broker.url,
            "HIVE_CREDS": str(broker.creds("svc-orchestrator")),
            "HIVE_SENDER": "svc-orchestrator",
            "HIVE_DATA": str(self.folder),
            "HIVE_COLOUR": colour,
            "HIVE_INSTANCE": instance,
            "HIVE_PROBE_PORT": self.probe.rpartition(":")[2],
            "HIVE_DURABILITY": "os",
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.orchestrator"], cwd=ROOT, env=env, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        async with asyncio.timeout(READY_WITHIN_S), httpx.AsyncClient() as client:
            while True:
                assert self.process.poll() is None, self._log.read_text()
                try:
                    if (await client.get(f"{self.probe}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.probe}/metrics")).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    def signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self.process.wait()


class Stage:
    """A broker with its topology, the orchestrators on it, and a gateway's connection."""

    def __init__(self, broker: LocalBroker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self._stack = stack
        self.ops: Connection
        self.gateway: Connection
        self.send: Sender
        self.store: JetStreamStore

    async def open(self) -> None:
        self.ops = await self._connect("ops")
        await ensure(self.ops, services=("gateway", SERVICE))
        self.gateway = await self._connect("gateway")
        publisher = Publisher(self.gateway)
        await publisher.start()
        self._stack.push_async_callback(publisher.stop)
        self.send = Sender(self.gateway, publisher)
        await self.send.start()
        self.store = JetStreamStore(self.gateway, publisher)

    async def _connect(self, sender: str) -> Connection:
        connection = await connect(self.broker.settings(sender))
        self._stack.push_async_callback(connection.close)
        return connection

    async def actor(self, instance: str, colour: str = "blue") -> Actor:
        actor = Actor(self.broker, colour, instance)
        self._stack.callback(actor.end)
        await actor.ready()
        return actor

    async def own(self, colour: str, partitions: Sequence[int]) -> None:
        """Make a colour's consumer filter for these partitions; none: it has no consumer."""
        stream, consumer = command_stream(SERVICE), command_consumer(SERVICE, colour)
        if not partitions:
            await self.ops.api(f"CONSUMER.DELETE.{stream}.{consumer}")
            return
        config = {
            "durable_name": consumer,
            "name": consumer,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": 2_000_000_000,
            "max_deliver": -1,
            "max_ack_pending": 4096,
            "filter_subjects": stored_command_filters(SERVICE, partitions),
        }
        body = json.dumps({"stream_name": stream, "config": config}).encode()
        await self.ops.api(f"CONSUMER.CREATE.{stream}.{consumer}", body)

    async def reset(self, colour: str) -> None:
        """Deliver from the beginning again what the colour's consumer had passed."""
        stream, consumer = command_stream(SERVICE), command_consumer(SERVICE, colour)
        await self.ops.api(f"CONSUMER.RESET.{stream}.{consumer}", b'{"seq":1}')

    async def waiting(self) -> int:
        return len(await every(self.gateway, command_stream(SERVICE), "cmd.>"))

    async def facts(self, task_id: str) -> list[TaskFact]:
        return [
            fact
            for stored in await self.store.read("task", task_id)
            for fact in TASK_CODEC.decode_all(stored.commit.facts)
        ]


def submit(number: int | str, body: str = "h") -> SubmitTask:
    """A task that no bot will do: it is only decided about."""
    return SubmitTask(task_id=TaskId(f"t{number}"), content=f"task {number}", body_hash=body, submitter="k")


def half(which: int) -> list[int]:
    return [partition for partition in range(PARTITIONS) if partition % 2 == which]


@asynccontextmanager
async def stage(broker: LocalBroker) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        stage = Stage(broker, stack)
        await stage.open()
        yield stage


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
