"""A real broker, schedulers as processes of their own, and what the orchestrator would tell and hear."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from shared.contracts.config import Config
from shared.contracts.naming import ROUTING_BUCKET, bucket_stream, routing_subject
from shared.contracts.orchestrator.facts import (
    BotCameUp,
    BotLaunched,
    BotSpec,
    Candidate,
    Decision,
    Output,
    TaskAssigned,
    TaskCompleted,
)
from shared.contracts.scheduler.queries import GetBotPerformance, Performance
from shared.contracts.scheduler.routing import RoutingTable
from shared.contracts.words import BotId, TaskId, TaskType
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import Command, Commit, Committed, Fact
from shared.runtime.clock import now
from shared.runtime.commands import Sender
from shared.runtime.config_watch import CONFIG_SUBJECT
from shared.runtime.connection import Connection, connect
from shared.runtime.directget import last_on
from shared.runtime.ids import new_id
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.queries import Asker
from shared.runtime.topology import ensure
from tests.services.scheduler.history import CODE, submitted
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[3]
WITHIN_S = 20.0
_tables = msgspec.json.Decoder(RoutingTable)


class Office:
    """Everything a test needs of running schedulers."""

    def __init__(self, broker: LocalBroker, gateway: Connection, owner: Connection) -> None:
        self.broker = broker
        self.ask = Asker(gateway)
        self.send: Sender
        self.log: JetStreamStore
        self._owner = owner
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tasks = 0

    def start(self, instance: str = "one") -> None:
        settings = self.broker.settings("svc-scheduler")
        with (self.broker.folder / f"scheduler-{instance}.log").open("ab") as log:
            self._processes[instance] = subprocess.Popen(
                [sys.executable, "-m", "services.scheduler"],
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

    def kill(self, instance: str = "one") -> None:
        process = self._processes.pop(instance)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        for instance in list(self._processes):
            self.kill(instance)

    async def launched(self, *names: str) -> None:
        for name in names:
            launched = BotLaunched(bot_id=BotId(name), spec=BotSpec(engine="echo"), generation=1)
            up = BotCameUp(bot_id=BotId(name), generation=1, pid=1, host="local")
            await self._tell("bot", name, 0, launched, up)

    async def done(self, bot: str, kind: TaskType = CODE) -> int:
        """A task from its beginning to its good end."""
        self._tasks += 1
        task_id = TaskId(f"task-{self._tasks}")
        decision = Decision(candidates=[Candidate(bot_id=BotId(bot), free=3)], candidates_total=1)
        given = TaskAssigned(task_id=task_id, bot_id=BotId(bot), attempt=1, decision=decision)
        token = await self._tell("task", task_id, 0, submitted(task_id, kind), given)
        moment = now()
        completed = TaskCompleted(
            task_id=task_id,
            bot_id=BotId(bot),
            token=token,
            attempt=1,
            started_at=moment,
            ended_at=moment,
            output=Output(),
        )
        return await self._tell("task", task_id, token, completed)

    async def committed(self, command: Command) -> int:
        outcome = await self.send(command, actor="key-1", wait_s=WITHIN_S)
        assert isinstance(outcome, Committed), outcome
        return outcome.sequence

    async def configure(self, config: Config) -> None:
        ops = await connect(self.broker.settings("ops"))
        await ops.nc.jetstream().publish(CONFIG_SUBJECT, encode(config))
        await ops.close()

    async def overwrite(self, kind: TaskType, data: bytes) -> None:
        """As another scheduler would."""
        other = await connect(self.broker.settings("svc-scheduler"))
        await other.nc.jetstream().publish(routing_subject(kind), data)
        await other.close()

    async def performance(self, bot: str, at_least: int = 0) -> tuple[Performance, ...]:
        """What is known of a bot, as soon as somebody answers."""
        found: tuple[Performance, ...] = ()

        async def answers() -> bool:
            nonlocal found
            found = (await self.ask(GetBotPerformance(bot_id=BotId(bot), at_least=at_least))).types
            return True

        await self.until(answers)
        return found

    async def table(
        self, there: Callable[[RoutingTable], bool] = lambda _: True, kind: TaskType = CODE
    ) -> RoutingTable:
        """What is published of a type, as soon as it is so."""
        found: list[RoutingTable] = []

        async def is_so() -> bool:
            last = await last_on(self._owner, bucket_stream(ROUTING_BUCKET), routing_subject(kind))
            if last is not None and last.data.startswith(b"{"):
                found.append(_tables.decode(last.data))
            return bool(found) and there(found[-1])

        await self.until(is_so)
        return found[-1]

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """The check is asked again and again, WITHIN_S at most."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    if await check():
                        return
                except (NotFound, Unavailable):
                    pass
                await asyncio.sleep(0.05)

    async def _tell(self, aggregate: str, aggregate_id: str, expected: int, *facts: Fact) -> int:
        told = [msgspec.Raw(encode(fact)) for fact in facts]
        commit = Commit(id=new_id(), at=now(), actor="test", cause=new_id(), chain=new_id(), facts=told)
        return await self.log.append(aggregate, aggregate_id, commit, expected=expected)


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[Office]:
    """A broker with its topology; start the schedulers yourself."""
    broker = LocalBroker(folder)
    try:
        ops = await connect(broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        gateway = await connect(broker.settings("gateway"))
        owner = await connect(broker.settings("svc-orchestrator"))
        publishers = [Publisher(gateway), Publisher(owner)]
        for publisher in publishers:
            await publisher.start()
        one = Office(broker, gateway, owner)
        one.send, one.log = Sender(gateway, publishers[0]), JetStreamStore(owner, publishers[1])
        await one.send.start()
        try:
            yield one
        finally:
            one.kill_all()
            for publisher in publishers:
                await publisher.stop()
            await gateway.close()
            await owner.close()
    finally:
        broker.close()
