"""Live output, and where a thing is that no view knows: asked of a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from shared.contracts.dead import DeadLetter, DeadLetters, ListDead
from shared.contracts.naming import LIVE, live_subject
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.orchestrator.protocol import Chunk
from shared.contracts.words import TaskId
from shared.kernel.codec import encode
from shared.kernel.messages import Commit
from shared.runtime.commands import Sender
from shared.runtime.connection import Connection, connect
from shared.runtime.dead import page
from shared.runtime.ids import new_id
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.live import BrokerLive, Gap, Piece
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure, ensure_volatile
from shared.runtime.whereabouts import BrokerWhereabouts, Dead, Nowhere, OnItsWay
from tests.support.api import letter
from tests.support.nats_server import LocalBroker
from tests.support.scenario import NOON

T1 = TaskId("t1")


class Outside:
    """The gateway's connection, and those of who it looks at."""

    def __init__(self, broker: LocalBroker, stack: AsyncExitStack) -> None:
        self.broker = broker
        self.stack = stack
        self.gateway: Connection
        self.owner: Connection
        self.bot: Connection

    async def open(self) -> None:
        ops = await connect(self.broker.settings("ops"))
        await ensure(ops)
        await ops.close()
        self.gateway = await self.connect("gateway")
        self.owner = await self.connect("svc-orchestrator")
        self.bot = await self.connect("bot-alpha")
        await ensure_volatile(self.gateway)

    async def connect(self, sender: str) -> Connection:
        connection = await connect(self.broker.settings(sender))
        self.stack.push_async_callback(connection.close)
        return connection

    async def publisher(self, connection: Connection) -> Publisher:
        publisher = Publisher(connection)
        await publisher.start()
        self.stack.push_async_callback(publisher.stop)
        return publisher

    async def print(self, *indexes: int, task_id: TaskId = T1, token: int = 5) -> None:
        for index in indexes:
            chunk = Chunk(task_id=task_id, token=token, index=index, text=f"piece {index}")
            await self.bot.publish(live_subject("alpha", task_id), encode(chunk))
        await self.bot.nc.flush()


@pytest.fixture
async def outside(broker: LocalBroker) -> AsyncIterator[Outside]:
    async with AsyncExitStack() as stack:
        made = Outside(broker, stack)
        await made.open()
        yield made


class Reader:
    """Reads live output in the background, with others or alone; while `may_read` is clear, it does not."""

    def __init__(
        self,
        outside: Outside,
        tasks: asyncio.TaskGroup,
        after: int = 0,
        live: BrokerLive | None = None,
        task_id: TaskId = T1,
    ) -> None:
        self.heard: list[Piece | Gap] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._more = asyncio.Condition()
        alone = live is None
        live = live or BrokerLive(outside.gateway)
        self._tasks = [tasks.create_task(live.follow(task_id, after, self._hear))]
        if alone:
            self._tasks.append(tasks.create_task(live.run()))

    async def _hear(self, word: Piece | Gap) -> None:
        await self.may_read.wait()
        async with self._more:
            self.heard.append(word)
            self._more.notify_all()

    async def until(self, count: int) -> list[str | Gap]:
        async with asyncio.timeout(15), self._more:
            await self._more.wait_for(lambda: len(self.heard) >= count)
        return [word if isinstance(word, Gap) else _text(word) for word in self.heard]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


def _text(piece: Piece) -> str:
    return msgspec.json.decode(piece.data, type=Chunk).text


async def test_output_is_read_from_its_beginning_and_as_it_comes(outside: Outside) -> None:
    await outside.print(0, 1)
    await outside.print(0, task_id=TaskId("another"))
    async with asyncio.TaskGroup() as tasks:
        reader = Reader(outside, tasks)
        assert await reader.until(2) == ["piece 0", "piece 1"]
        await outside.print(2)
        assert await reader.until(3) == ["piece 0", "piece 1", "piece 2"]
        reader.stop()
    assert await BrokerLive(outside.gateway).last(T1) == reader.heard[-1].sequence  # type: ignore[union-attr]
    assert await BrokerLive(outside.gateway).last(TaskId("silent")) == 0


async def test_a_reader_that_comes_again_goes_on_where_it_was(outside: Outside) -> None:
    await outside.print(0, 1, 2)
    async with asyncio.TaskGroup() as tasks:
        first = Reader(outside, tasks)
        await first.until(3)
        first.stop()
    seen = first.heard[1]
    assert isinstance(seen, Piece)
    async with asyncio.TaskGroup() as tasks:
        again = Reader(outside, tasks, after=seen.sequence)
        assert await again.until(1) == ["piece 2"]
        again.stop()


async def test_a_reader_that_comes_after_the_broker_lost_the_output_is_told_of_the_gap(
    outside: Outside,
) -> None:
    await outside.print(3)
    async with asyncio.TaskGroup() as tasks:
        reader = Reader(outside, tasks, after=700)
        assert await reader.until(2) == [Gap(after=0, before=1), "piece 3"]
        reader.stop()


async def test_output_goes_on_after_a_restart_of_the_broker(outside: Outside) -> None:
    await outside.print(0, 1, 2)
    made_again = asyncio.Event()

    async def make_again() -> None:
        await ensure_volatile(outside.gateway)
        made_again.set()

    bot_is_back = asyncio.Event()

    async def note_that() -> None:
        bot_is_back.set()

    outside.gateway.on_reconnect(make_again)
    outside.bot.on_reconnect(note_that)
    async with asyncio.TaskGroup() as tasks:
        reader = Reader(outside, tasks)
        await reader.until(3)
        outside.broker.kill()
        outside.broker.restart()
        async with asyncio.timeout(15):
            await made_again.wait()
            await bot_is_back.wait()  # it may not have noticed yet that its connection is gone
        await outside.print(3, 4)
        assert (await reader.until(5))[-2:] == ["piece 3", "piece 4"]
        reader.stop()


async def consumers(outside: Outside) -> int:
    info = await outside.gateway.api(f"STREAM.INFO.{LIVE}")
    count: int = msgspec.json.decode(info)["state"]["consumer_count"]
    return count


async def test_many_readers_share_one_consumer_and_none_is_asked_when_they_are_gone(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.live.LINGER_S", 0.0)
    live = BrokerLive(outside.gateway)
    names = [TaskId(f"t{number}") for number in range(50)]
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(live.run())
        readers = [Reader(outside, tasks, live=live, task_id=name) for name in names]
        for index in range(3):
            for name in names:
                await outside.print(index, task_id=name)
        for reader in readers:
            assert await reader.until(3) == ["piece 0", "piece 1", "piece 2"]
        assert await consumers(outside) == 1
        for reader in readers:
            reader.stop()
        async with asyncio.timeout(10):
            while live._until is not None:
                await asyncio.sleep(0.01)
        late = Reader(outside, tasks, live=live, task_id=names[0])
        assert await late.until(3) == ["piece 0", "piece 1", "piece 2"]
        late.stop()
        feeding.cancel()


async def test_a_reader_that_does_not_keep_up_misses_nothing_and_holds_up_nobody(outside: Outside) -> None:
    live = BrokerLive(outside.gateway)
    wanted = [f"piece {index}" for index in range(1_000)]
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(live.run())
        slow, quick = [Reader(outside, tasks, live=live) for _ in range(2)]
        slow.may_read.clear()
        for start in range(0, 1_000, 100):
            await outside.print(*range(start, start + 100))
            await quick.until(start + 100)
        assert await quick.until(1_000) == wanted
        (waiting,) = [reader for reader in live._readers[T1] if reader.behind]
        assert (len(waiting.waiting), slow.heard) == (0, [])
        slow.may_read.set()
        assert await slow.until(1_000) == wanted
        for task in (slow, quick):
            task.stop()
        feeding.cancel()


class Letters:
    """An Ask that knows some dead letters."""

    def __init__(self, *letters: DeadLetter) -> None:
        self.letters = list(letters)

    async def __call__(self, query: object, **_: object) -> DeadLetters:
        assert isinstance(query, ListDead)
        return page(self.letters, query)


async def test_a_command_in_the_queue_is_on_its_way(outside: Outside) -> None:
    where = BrokerWhereabouts(outside.gateway, Letters())  # type: ignore[arg-type]
    assert await where("orchestrator", "task", "t1") == Nowhere()
    sender = Sender(outside.gateway, await outside.publisher(outside.gateway))
    await sender.start()
    assert await sender(CancelTask(task_id=T1), actor="a", wait_s=0) is None
    assert await where("orchestrator", "task", "t1") == OnItsWay()
    assert await where("orchestrator", "task", "t2") == Nowhere()


async def test_what_the_log_has_is_on_its_way_to_the_views(outside: Outside) -> None:
    where = BrokerWhereabouts(outside.gateway, Letters())  # type: ignore[arg-type]
    store = JetStreamStore(outside.owner, await outside.publisher(outside.owner))
    commit = Commit(id=new_id(), at=NOON, actor="a", cause="c", chain="c", facts=[])
    await store.append("task", "t1", commit, expected=0)
    assert await where("orchestrator", "task", "t1") == OnItsWay()
    assert await where("orchestrator", "bot", "t1") == Nowhere()


async def test_what_could_not_be_handled_lies_dead(outside: Outside) -> None:
    where = BrokerWhereabouts(outside.gateway, Letters(letter("d1", key="t1")))  # type: ignore[arg-type]
    assert await where("orchestrator", "task", "t1") == Dead("d1", "boom")
    assert await where("orchestrator", "task", "t2") == Nowhere()
