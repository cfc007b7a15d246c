"""When opinions are published: only what changed, only where it is ours, and until it is stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from services.scheduler import service
from services.scheduler.answers import Answers
from services.scheduler.projection import Books
from services.scheduler.service import Scheduler
from shared.contracts.config import Config
from shared.contracts.naming import partition_of, routing_subject
from shared.contracts.scheduler.routing import RoutingTable
from shared.contracts.words import PARTITIONS, TaskType
from shared.kernel.errors import Unavailable
from tests.services.scheduler.history import CODE, History
from tests.support.scenario import NOON

EVERY = frozenset(range(PARTITIONS))


class Bucket:
    """Keeps what was published; refuses as often as it is told to."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, RoutingTable]] = []
        self.refuse = 0
        self.news = asyncio.Event()

    async def publish(self, subject: str, data: bytes, *, deadline_s: float) -> None:
        assert deadline_s > 0
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("the broker is away")
        self.stored.append((subject, msgspec.json.decode(data, type=RoutingTable)))
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.stored) < count:
                self.news.clear()
                await self.news.wait()


class Desk:
    """A scheduler without a process, and the bucket it publishes to."""

    def __init__(self) -> None:
        self.bucket, self.history, self.config = Bucket(), History(), Config()
        self.owned = EVERY
        books = Books(lambda: self.config)
        answers = Answers(books, None, config=lambda: self.config, now=lambda: NOON, seen=None)  # type: ignore[arg-type]
        self.scheduler = Scheduler(books, answers, self.bucket, owned=lambda: self.owned)  # type: ignore[arg-type]
        self._heard = 0
        self.history.bots("alpha")

    def hear(self) -> None:
        """All that is new in the log."""
        for commit in self.history.commits[self._heard :]:
            self.scheduler.followed(commit)
        self._heard = len(self.history.commits)


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    one = Desk()
    working = asyncio.ensure_future(one.scheduler.run())
    yield one
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PUBLISH_EVERY_S", 0.01)


async def test_many_ends_are_one_table_and_no_news_is_none() -> None:
    async with desk() as one:
        for _ in range(50):
            one.history.done("alpha")
        one.hear()
        await one.bucket.until(1)
        one.history.fails("alpha", one.history.given("alpha"), retryable=False)  # says nothing about alpha
        one.hear()
        await one.scheduler.todo(EVERY)
        one.history.done("alpha", TaskType.WRITING)
        one.hear()
        await one.bucket.until(3)  # what is ours for the first time is published again
        await one.scheduler.todo(EVERY)
        one.history.done("alpha", TaskType.WRITING)
        one.hear()
        await one.bucket.until(4)
    subjects = [subject for subject, _ in one.bucket.stored]
    assert subjects[0] == routing_subject(CODE)
    assert sorted(subjects) == [routing_subject(CODE)] * 2 + [routing_subject(TaskType.WRITING)] * 2


async def test_only_the_types_that_are_ours_are_published() -> None:
    async with desk() as one:
        one.owned = EVERY - {partition_of(CODE)}
        one.history.done("alpha")
        one.history.done("alpha", TaskType.WRITING)
        one.hear()
        await one.bucket.until(1)
        assert [table.type for _, table in one.bucket.stored] == [TaskType.WRITING]
        one.owned = EVERY
        await one.scheduler.todo(EVERY)
        await one.bucket.until(3)
    assert {table.type for _, table in one.bucket.stored} == {CODE, TaskType.WRITING}


async def test_what_could_not_be_stored_is_tried_again() -> None:
    async with desk() as one:
        one.bucket.refuse = 3
        one.history.done("alpha")
        one.hear()
        await one.bucket.until(1)
    assert one.bucket.stored[0][1].bots["alpha"].samples == 1


async def test_another_policy_is_published_and_a_retired_bot_is_not() -> None:
    async with desk() as one:
        one.history.done("alpha")
        one.history.done("stranger")
        one.hear()
        await one.bucket.until(1)
        assert list(one.bucket.stored[0][1].bots) == ["alpha"]
        await one.scheduler.todo(EVERY)
        await one.bucket.until(2)
        one.config = Config(scheduler_policy="fast")
        await one.scheduler.todo(EVERY)
        await one.bucket.until(3)
    assert [table.policy for _, table in one.bucket.stored] == ["efficient", "efficient", "fast"]
