"""Views that begin with what is alive, and tables that break or cannot be written while they are followed."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Commit, Recorded
from shared.runtime.living import Live
from shared.runtime.memory import FOLLOW_BATCH_MAX, MemoryStore
from shared.runtime.projection import Follower, MemoryView
from shared.runtime.store import Stored
from shared.runtime.viewfile import Read, Statement
from shared.runtime.views import Table
from tests.support.broken import break_file
from tests.support.notes import NOON, NOTE_CODEC, NoteFact, NoteRubbedOut, NoteWritten

WITHIN_S = 15.0
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, texts INTEGER NOT NULL, gone INTEGER NOT NULL)",
)
KEEP = (
    "INSERT INTO notes VALUES (?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET texts = texts + excluded.texts, gone = excluded.gone"
)
ALIVE = {"note": "SELECT id FROM notes WHERE gone = 0"}
TOTALS = "SELECT COUNT(*) FROM notes WHERE gone = 1"


class CountingStore(MemoryStore):
    """A log that knows which aggregates were read, and that is away for the first `away` of them."""

    def __init__(self, away: int = 0) -> None:
        super().__init__()
        self.away = away
        self.reads: list[str] = []

    async def read(self, aggregate: str, aggregate_id: str, after: int = 0) -> list[Stored]:
        if self.away:
            self.away -= 1
            raise Unavailable("the broker is away")
        self.reads.append(aggregate_id)
        return await super().read(aggregate, aggregate_id, after)

    async def write(self, note_id: str, *facts: NoteFact, kind: str = "note") -> int:
        raw = [msgspec.Raw(encode(fact)) for fact in facts]
        commit = Commit(id="i", at=NOON, actor="a", cause="c", chain="h", facts=raw)
        return await self.append(kind, note_id, commit, expected=await self.version(kind, note_id))


class House:
    """A table of notes, and a view in memory of those that are not rubbed out."""

    def __init__(
        self,
        folder: Path,
        store: CountingStore,
        *,
        waiting_max: int = 1_000,
        kinds: Sequence[str] = ("note",),
    ) -> None:
        self.store = store
        self.path = folder / "notes-v1.sqlite"
        self.full = False
        self.applied: list[int] = []
        self.notes: dict[str, int] = {}
        self.begun: list[tuple[int, int]] = []
        self.table = Table(
            folder / "notes.sqlite",
            version=1,
            schema=SCHEMA,
            aggregates={"note"},
            rows=self.rows,
            waiting_max=waiting_max,
        )
        live = Live(self.table, ALIVE, TOTALS, lambda at, totals: self.begun.append((at, totals[0][0])))
        self.view: MemoryView[NoteFact] = MemoryView("notes", kinds, self.apply, live)
        self.follower = Follower("notes", store, dict.fromkeys(kinds, NOTE_CODEC), kinds)
        self.follower.add(self.table)
        self.follower.add(self.view)

    def rows(self, batch: Sequence[Recorded[Any]], read: Read) -> list[Statement]:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return [Statement(KEEP, [(each.aggregate_id, written(each), rubbed_out(each))]) for each in batch]

    def apply(self, commit: Recorded[NoteFact]) -> None:
        self.applied.append(commit.sequence)
        self.notes[commit.aggregate_id] = self.notes.get(commit.aggregate_id, 0) + written(commit)
        if rubbed_out(commit):
            del self.notes[commit.aggregate_id]

    async def listed(self) -> dict[str, int]:
        rows = await self.table.read("SELECT id, texts FROM notes WHERE gone = 0")
        return {row[0]: row[1] for row in rows}

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    if await check():
                        return
                except Unavailable:
                    pass
                await asyncio.sleep(0.01)

    async def is_listed(self) -> bool:
        """Whether the table says the same as memory, and nothing is wrong."""
        return await self.listed() == self.notes and not self.table.problem


def written(commit: Recorded[NoteFact]) -> int:
    return sum(isinstance(fact, NoteWritten) for fact in commit.facts)


def rubbed_out(commit: Recorded[NoteFact]) -> bool:
    return any(isinstance(fact, NoteRubbedOut) for fact in commit.facts)


@asynccontextmanager
async def house(
    folder: Path, store: CountingStore, *, waiting_max: int = 1_000, kinds: Sequence[str] = ("note",)
) -> AsyncIterator[House]:
    one = House(folder, store, waiting_max=waiting_max, kinds=kinds)
    await one.table.open(await store.identity(), await store.last_sequence())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.table.run()), group.create_task(one.follower.run())]
        try:
            await one.follower.reached(await store.last_sequence(), within_s=WITHIN_S)
            yield one
        finally:
            for task in tasks:
                task.cancel()
    await one.table.close()


async def a_past() -> CountingStore:
    store = CountingStore()
    for number in range(10):
        await store.write(f"n{number}", NoteWritten(text="a"))
        await store.write(f"n{number}", NoteWritten(text="b"))
        if number % 5:
            await store.write(f"n{number}", NoteRubbedOut())
    return store


async def test_a_start_reads_only_what_is_alive_and_in_order(tmp_path: Path) -> None:
    store = await a_past()
    async with house(tmp_path, store):
        store.reads.clear()
    async with house(tmp_path, store) as again:
        assert sorted(store.reads) == ["n0", "n5"]
        assert again.notes == {"n0": 2, "n5": 2}
        assert again.applied == sorted(again.applied)
        assert again.begun == [(await store.last_sequence(), 8)]


async def test_what_comes_after_the_beginning_is_applied_once_whatever_it_is_about(tmp_path: Path) -> None:
    store = await a_past()
    async with house(tmp_path, store) as one:
        await store.write("n0", NoteWritten(text="c"))
        await store.write(
            "n1", NoteWritten(text="c")
        )  # nobody writes what is gone, but the view may not care
        await store.write("n5", NoteRubbedOut())
        await one.follower.reached(await store.write("new", NoteWritten(text="d")))
        assert one.notes == {"n0": 3, "n1": 1, "new": 1}
        assert len(set(one.applied)) == len(one.applied)


async def test_a_table_built_from_nothing_and_one_that_went_on_begin_the_same(tmp_path: Path) -> None:
    store = await a_past()
    async with house(tmp_path / "old", store):
        pass
    await store.write("n0", NoteRubbedOut())
    await store.write("n11", NoteWritten(text="e"))
    async with house(tmp_path / "old", store) as old, house(tmp_path / "new", store) as new:
        assert old.notes == new.notes == {"n5": 2, "n11": 1}
        assert old.begun == new.begun


async def test_a_kind_that_the_table_does_not_know_is_read_whole_and_in_order(tmp_path: Path) -> None:
    store = await a_past()
    for number in range(3):
        await store.write("n0", NoteWritten(text=f"c{number}"))
        await store.write(f"other{number}", NoteWritten(text="o"), kind="other")
    async with house(tmp_path, store, kinds=("note", "other")) as one:
        assert one.notes == {"n0": 5, "n5": 2, "other0": 1, "other1": 1, "other2": 1}
        assert one.applied == sorted(one.applied)
        await one.follower.reached(await store.write("other3", NoteWritten(text="o"), kind="other"))
        assert one.notes["other3"] == 1


async def test_a_log_that_is_away_at_the_start_is_asked_again(tmp_path: Path) -> None:
    store = await a_past()
    store.away = 3
    async with house(tmp_path, store) as one:
        assert one.notes == {"n0": 2, "n5": 2}


async def test_a_file_that_breaks_is_built_again_when_a_reader_meets_it(tmp_path: Path) -> None:
    store = await a_past()
    async with house(tmp_path, store) as one:
        await one.until(one.is_listed)
        break_file(one.path)
        with pytest.raises(Unavailable, match="is built again"):
            await one.listed()
        await one.until(one.is_listed)
        await one.follower.reached(await store.write("new", NoteWritten(text="d")))
        await one.until(one.is_listed)
        assert one.notes == {"n0": 2, "n5": 2, "new": 1}


async def test_a_file_that_breaks_is_built_again_when_the_writer_meets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await a_past()
    async with house(tmp_path, store) as one:
        await one.until(one.is_listed)
        break_file(one.path)
        await store.write("new", NoteWritten(text="d"))

        async def broke() -> bool:
            return "is built again" in caplog.text

        await one.until(broke)
        await one.until(one.is_listed)
        assert await one.listed() == {"n0": 2, "n5": 2, "new": 1}


async def test_a_file_that_was_emptied_is_built_again(tmp_path: Path) -> None:
    store = await a_past()
    async with house(tmp_path, store) as one:
        await one.until(one.is_listed)
        with sqlite3.connect(one.path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        with one.path.open("r+b") as file:
            file.truncate(0)
        await one.follower.reached(await store.write("new", NoteWritten(text="d")))
        await one.until(one.is_listed)
        assert await one.listed() == {"n0": 2, "n5": 2, "new": 1}


async def test_while_nothing_can_be_written_what_waits_is_bounded_and_memory_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await a_past()
    async with house(tmp_path, store, waiting_max=300) as one:
        await one.until(one.is_listed)
        one.full = True
        most = 0
        for number in range(1_000):
            last = await store.write(f"m{number}", NoteWritten(text="d"))
            await one.follower.reached(last)
            most = max(most, len(one.table._waiting))
        assert most <= 300 + FOLLOW_BATCH_MAX
        assert len(one.notes) == 1_002
        async with asyncio.timeout(WITHIN_S):
            while "disk is full" not in one.table.problem:
                await asyncio.sleep(0.01)
        one.full = False
        await one.until(one.is_listed)
        assert len(await one.listed()) == 1_002
        assert 1 <= caplog.text.count("cannot keep up") <= 2


async def test_a_full_disk_at_the_start_delays_the_beginning_and_is_told(tmp_path: Path) -> None:
    store = await a_past()
    one = House(tmp_path, store)
    one.full = True
    await one.table.open(await store.identity(), await store.last_sequence())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.table.run()), group.create_task(one.follower.run())]
        async with asyncio.timeout(WITHIN_S):
            while "disk is full" not in one.table.problem:
                await asyncio.sleep(0.01)
        assert one.begun == []
        one.full = False
        await one.follower.reached(await store.last_sequence(), within_s=WITHIN_S)
        assert one.notes == {"n0": 2, "n5": 2}
        for task in tasks:
            task.cancel()
    await one.table.close()
