"""A stand-in for the orchestrator, at the seam: it answers heartbeats, assigns, and hears reports."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from nats.aio.msg import Msg

from shared.contracts import naming
from shared.contracts.orchestrator.commands import ClaimTask, ReportBotExit, ReportTask
from shared.contracts.orchestrator.protocol import (
    Assignment,
    Chunk,
    Control,
    FileAnswer,
    Heartbeat,
    HeartbeatAnswer,
    HostAnswer,
    HostOrder,
    HostReport,
)
from shared.contracts.words import TaskId, TaskType
from shared.kernel.codec import Codec, encode
from shared.kernel.messages import Envelope, Outcome
from shared.runtime import topology
from shared.runtime.connection import Connection, connect
from shared.runtime.publish import Publisher
from shared.runtime.pull import PullConsumer
from tests.support.nats_server import LocalBroker

COMMANDS = Codec[ReportTask | ClaimTask | ReportBotExit](ReportTask | ClaimTask | ReportBotExit)


class Overseer:
    """Hears one hive's bots. `answering` off: heartbeats come in vain."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self.connection = connection
        self.publisher = publisher
        self.answering = True
        self.held: set[int] | None = None  # None: whatever a heartbeat names is still held
        self.answer = HeartbeatAnswer()
        self.heartbeats: list[Heartbeat] = []
        self.reports: list[ReportTask] = []
        self.claims: list[ClaimTask] = []
        self.exits: list[ReportBotExit] = []
        self.host_reports: list[HostReport] = []
        self.decide: Callable[[Envelope], Outcome | None] = lambda _: None
        self.files: dict[str, bytes] = {}
        self.file_trouble = ""
        self._news = asyncio.Event()

    async def hear_heartbeat(self, message: Msg) -> None:
        heartbeat = msgspec.json.decode(message.data, type=Heartbeat)
        self.heartbeats.append(heartbeat)
        self._news.set()
        if self.answering:
            named = {held.token for held in heartbeat.held}
            held = tuple(sorted(named if self.held is None else named & self.held))
            await message.respond(encode(msgspec.structs.replace(self.answer, held=held)))

    async def hear_host(self, message: Msg) -> None:
        self.host_reports.append(msgspec.json.decode(message.data, type=HostReport))
        self._news.set()

    async def order(self, order: HostOrder, host: str = "local") -> HostAnswer:
        answer = await self.connection.request(naming.host_subject(host), encode(order), timeout=20)
        return msgspec.json.decode(answer.data, type=HostAnswer)

    async def exited(self, bot_id: str) -> ReportBotExit:
        await self.until(lambda: any(each.bot_id == bot_id for each in self.exits))
        return next(each for each in self.exits if each.bot_id == bot_id)

    async def up(self, bot_id: str, generation: int = 1) -> Heartbeat:
        """The newest heartbeat of this process, when there is one."""
        found: list[Heartbeat] = []

        def heard() -> bool:
            found[:] = [
                beat for beat in self.heartbeats if (beat.bot_id, beat.generation) == (bot_id, generation)
            ]
            return bool(found)

        await self.until(heard, 20)
        return found[-1]

    async def hear_commands(self) -> None:
        pull = PullConsumer(
            self.connection,
            naming.command_stream("orchestrator"),
            naming.command_consumer("orchestrator", naming.BLUE),
        )
        async for batch in pull.batches():
            for delivery in batch:
                envelope = msgspec.json.decode(delivery.data, type=Envelope)
                command = COMMANDS.decode(envelope.command)
                assert delivery.headers["Nats-Msg-Id"].startswith(envelope.id)
                match command:
                    case ReportTask():
                        self.reports.append(command)
                    case ClaimTask():
                        self.claims.append(command)
                    case ReportBotExit():
                        self.exits.append(command)
                if (outcome := self.decide(envelope)) is not None:
                    await self.connection.publish(delivery.headers[naming.REPLY_HEADER], encode(outcome))
                await delivery.ack()
                self._news.set()

    async def hear_file(self, message: Msg) -> None:
        assert message.headers
        assert message.headers["Hive-Token"]
        assert message.headers["Hive-Task"]
        if message.subject.endswith(".put"):
            digest = hashlib.sha256(message.data).hexdigest()
            if not self.file_trouble:
                self.files[digest] = message.data
            answer = FileAnswer(sha256="" if self.file_trouble else digest, error=self.file_trouble)
            await message.respond(encode(answer))
        else:
            await message.respond(self.files[message.data.decode()])

    async def assign(
        self, token: int, content: str = "hello", given: str | None = None, *, bot: str = "alpha", **more: Any
    ) -> None:
        task = Assignment(
            **{
                "task_id": TaskId(f"task-{token}"),
                "token": token,
                "attempt": 1,
                "type": TaskType.OTHER,
                "content": content,
                "timeout_s": 30.0,
                "chain": "c",
                "input": given,
                **more,
            }
        )
        await self.publisher.publish(naming.run_subject(bot), encode(task), ttl_s=2)

    async def tell(self, control: Control) -> None:
        await self.connection.publish(naming.control_subject("alpha"), encode(control))

    async def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until what was heard makes it true."""
        async with asyncio.timeout(within_s):
            while not true():
                self._news.clear()
                await self._news.wait()

    def holding(self) -> set[int]:
        """The tokens that the newest heartbeat named."""
        return {held.token for held in self.heartbeats[-1].held} if self.heartbeats else set()

    def report(self, token: int) -> ReportTask | None:
        return next((report for report in self.reports if report.token == token), None)

    async def reported(self, token: int, within_s: float = 10.0) -> ReportTask:
        await self.until(lambda: self.report(token) is not None, within_s)
        report = self.report(token)
        assert report is not None
        return report


@asynccontextmanager
async def oversee(broker: LocalBroker, *bots: str) -> AsyncIterator[Overseer]:
    """The topology, a consumer for each bot, and a stand-in that listens."""
    ops = await connect(broker.settings("ops"))
    await topology.ensure(ops)
    for bot in bots:
        await topology.ensure_bot_consumer(ops, bot)
    connection = await connect(broker.settings("svc-orchestrator"))
    publisher = Publisher(connection)
    await publisher.start()
    overseer = Overseer(connection, publisher)
    await connection.subscribe(naming.heartbeat_subject("*"), overseer.hear_heartbeat)
    await connection.subscribe(naming.file_subject("*", "*"), overseer.hear_file)
    await connection.subscribe(naming.host_report_subject("*"), overseer.hear_host)
    hearing = asyncio.ensure_future(overseer.hear_commands())
    try:
        yield overseer
    finally:
        hearing.cancel()
        await publisher.stop()
        await connection.close(drain=False)
        await ops.close(drain=False)


async def live_chunks(broker: LocalBroker, task_id: str) -> list[Chunk]:
    """Everything that LIVE holds about a task."""
    async with broker.client("ops") as ops:
        stream = ops.jetstream()
        last = (await stream.stream_info(naming.LIVE)).state.last_seq
        stored = [await stream.get_msg(naming.LIVE, seq=sequence) for sequence in range(1, last + 1)]
    chunks = [msgspec.json.decode(message.data or b"", type=Chunk) for message in stored]
    return [chunk for chunk in chunks if chunk.task_id == task_id]
