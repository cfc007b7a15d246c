"""A real broker, schedulers and an orchestrator as processes of their own, and a gateway to ask them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shared.contracts import naming
from shared.contracts.orchestrator.queries import GetTask, TaskDoc
from shared.contracts.scheduler.schedules import (
    AddSchedule,
    GetSchedule,
    ListReceipts,
    ListSchedules,
    Receipt,
    ScheduleDoc,
    ScheduleName,
    SchedulePlan,
    TaskTemplate,
)
from shared.contracts.words import PARTITIONS, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import Command, Committed
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.publish import Publisher
from shared.runtime.queries import Asker
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[3]
WITHIN_S = 25.0


def plan(expression: str, **fields: Any) -> SchedulePlan:
    return SchedulePlan(expression=expression, task=TaskTemplate(content="tick"), **fields)


def add(name: str, wanted: SchedulePlan) -> AddSchedule:
    return AddSchedule(name=ScheduleName(name), plan=wanted, owner="key-1")


class Clockwork:
    """Everything a test needs of running schedulers."""

    def __init__(self, broker: LocalBroker, gateway: Connection) -> None:
        self.broker = broker
        self.gateway = gateway
        self.ask = Asker(gateway)
        self.send: Sender
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self, service: str = "scheduler", instance: str = "one", colour: str = "blue"
    ) -> subprocess.Popen[bytes]:
        settings = self.broker.settings(f"svc-{service}")
        assert settings.creds is not None
        with (self.broker.folder / f"{service}-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "HIVE_NATS_URL": self.broker.url,
                    "HIVE_CREDS": str(settings.creds),
                    "HIVE_DATA": str(settings.data),
                    "HIVE_INSTANCE": instance,
                    "HIVE_COLOUR": colour,
                },
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    async def own(self, colour: str, partitions: Sequence[int]) -> None:
        """These partitions are a colour's from now on."""
        ops = await connect(self.broker.settings("ops"))
        stream = naming.command_stream("scheduler")
        consumer = naming.command_consumer("scheduler", colour)
        nothing = naming.stored_command_filter("scheduler", 0).replace(".0.", f".{colour}.")
        filters = [naming.stored_command_filter("scheduler", each) for each in partitions]
        config = {
            "durable_name": consumer,
            "name": consumer,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": 2_000_000_000,
            "max_deliver": -1,
            "max_ack_pending": 4096,
            "filter_subjects": filters or [nothing],
        }
        await ops.api(
            f"CONSUMER.CREATE.{stream}.{consumer}", encode({"stream_name": stream, "config": config})
        )
        if partitions:
            await ops.api(f"CONSUMER.RESET.{stream}.{consumer}", b'{"seq":1}')
        await ops.close()

    async def split_partitions(self) -> None:
        """Even partitions are blue's, odd ones green's."""
        for which, colour in enumerate(naming.COLOURS):
            await self.own(colour, range(which, PARTITIONS, 2))

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """The check is asked again and again, WITHIN_S at most."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    if await check():
                        return
                except (Unavailable, NotFound):
                    pass
                await asyncio.sleep(0.05)

    async def answers(self) -> None:
        """Wait until a scheduler answers."""

        async def answers() -> bool:
            await self.ask(ListSchedules())
            return True

        await self.until(answers)

    async def committed(self, command: Command) -> int:
        outcome = await self.send(command, actor="key-1", wait_s=WITHIN_S)
        assert isinstance(outcome, Committed), outcome
        return outcome.sequence

    async def schedule(self, name: str, at_least: int = 0) -> ScheduleDoc:
        return await self.ask(GetSchedule(name=ScheduleName(name), at_least=at_least))

    async def receipts(self, name: str) -> list[Receipt]:
        """Oldest first."""
        page = await self.ask(ListReceipts(name=ScheduleName(name), limit=200))
        return page.items[::-1]

    async def has_ticked(self, name: str, times: int) -> list[Receipt]:
        async def has_ticked() -> bool:
            return len(await self.receipts(name)) >= times

        await self.until(has_ticked)
        return await self.receipts(name)

    async def task(self, task_id: TaskId) -> TaskDoc:
        return await self.ask(GetTask(task_id=task_id))

    async def submitted(self, *task_ids: TaskId | None) -> None:
        """Wait until the orchestrator knows all of these."""

        async def are_there() -> bool:
            return all([(await self.task(each)).id == each for each in task_ids if each is not None])

        await self.until(are_there)


@asynccontextmanager
async def clockwork(folder: Path) -> AsyncIterator[Clockwork]:
    """A broker with its topology, and a gateway; start the services yourself."""
    broker = LocalBroker(folder)
    try:
        ops = await connect(broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        gateway = await connect(broker.settings("gateway"))
        publisher = Publisher(gateway)
        await publisher.start()
        works = Clockwork(broker, gateway)
        works.send = Sender(gateway, publisher)
        await works.send.start()
        try:
            yield works
        finally:
            works.end()
            await publisher.stop()
            await gateway.close()
    finally:
        broker.close()
