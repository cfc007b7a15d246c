"""What stands in a bucket is told, and told again when it changes, whoever was away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from shared.contracts.naming import TRAFFIC_BUCKET, bucket_subject
from shared.kernel.codec import encode
from shared.runtime.bucket_watch import OPERATION, BucketWatch
from shared.runtime.connection import Connection, connect
from shared.runtime.topology import ensure
from tests.support.nats_server import LocalBroker

WITHIN_S = 20.0


class Weight(msgspec.Struct, frozen=True):
    """Something that stands in a bucket."""

    grams: int


class Scales:
    """Who watches, and what it was told; who writes."""

    def __init__(self, broker: LocalBroker, watcher: Connection, writer: Connection) -> None:
        self.broker = broker
        self.writer = writer
        self.known: dict[str, Weight] = {}
        self.told = 0
        self._moved = asyncio.Event()
        self.watch = BucketWatch(watcher, TRAFFIC_BUCKET, Weight, self._tell)

    def _tell(self, key: str, weight: Weight | None) -> None:
        if key == "nonsense":
            raise ValueError(key)
        self.told += 1
        if weight is None:
            self.known.pop(key, None)
        else:
            self.known[key] = weight
        self._moved.set()

    async def put(self, key: str, value: bytes, headers: dict[str, str] | None = None) -> None:
        subject = bucket_subject(TRAFFIC_BUCKET, key)
        await self.writer.request(subject, value, timeout=5, headers=headers)

    async def until(self, known: dict[str, int]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while {key: weight.grams for key, weight in self.known.items()} != known:
                self._moved.clear()
                await self._moved.wait()


@pytest.fixture
async def scales(broker: LocalBroker) -> AsyncIterator[Scales]:
    async with AsyncExitStack() as stack:
        watcher, writer = (
            await connect(broker.settings("svc-orchestrator")),
            await connect(broker.settings("ops")),
        )
        stack.push_async_callback(watcher.close)
        stack.push_async_callback(writer.close)
        await ensure(writer)
        yield Scales(broker, watcher, writer)


async def test_what_stands_there_is_told_and_each_change(scales: Scales) -> None:
    await scales.put("a", encode(Weight(1)))
    await scales.put("b", encode(Weight(2)))
    await scales.watch.run()
    assert scales.known == {"a": Weight(1), "b": Weight(2)}
    await scales.put("b", encode(Weight(3)))
    await scales.until({"a": 1, "b": 3})


async def test_what_is_taken_back_is_told_as_that(scales: Scales) -> None:
    await scales.put("a", encode(Weight(1)))
    await scales.watch.run()
    await scales.put("a", b"", {OPERATION: "DEL"})
    await scales.until({})


async def test_what_is_not_valid_is_not_taken_and_the_last_value_stays(
    scales: Scales, caplog: pytest.LogCaptureFixture
) -> None:
    await scales.put("a", encode(Weight(1)))
    await scales.watch.run()
    await scales.put("a", b'{"grams": "many"}')
    await scales.put("nonsense", encode(Weight(1)))
    await scales.put("b", encode(Weight(2)))
    await scales.until({"a": 1, "b": 2})
    assert "a in bucket traffic is not valid and is not taken" in caplog.text
    assert "nonsense in bucket traffic is not valid" in caplog.text


async def test_what_changed_while_the_broker_was_away_is_told_after_it(scales: Scales) -> None:
    await scales.put("a", encode(Weight(1)))
    await scales.put("b", encode(Weight(2)))
    await scales.watch.run()
    told = scales.told
    scales.broker.restart()
    assert scales.known == {"a": Weight(1), "b": Weight(2)}
    async with scales.broker.client("ops") as other:
        await other.request(bucket_subject(TRAFFIC_BUCKET, "a"), encode(Weight(9)), timeout=5)
    await scales.until({"a": 9, "b": 2})
    assert scales.told > told
