"""Views in memory and in SQLite: each fact once, in order, from where they stopped."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.kernel.codec import encode
from shared.kernel.errors import Behind, Unavailable, Undecodable
from shared.kernel.messages import Commit, Recorded
from shared.runtime.memory import MemoryStore
from shared.runtime.projection import Follower, MemoryView
from shared.runtime.views import Read, Statement, Table
from tests.support.notes import CAUSE, NOON, NOTE_CODEC, NoteFact, NoteWritten

SCHEMA = ("CREATE TABLE IF NOT EXISTS notes (sequence INTEGER PRIMARY KEY, text TEXT NOT NULL)",)


def rows(batch: Sequence[Recorded[Any]], read: Read) -> list[Statement]:
    found = [
        (each.sequence, fact.text) for each in batch for fact in each.facts if isinstance(fact, NoteWritten)
    ]
    return [Statement("INSERT INTO notes VALUES (?, ?)", found)]


def commit(*facts: bytes | NoteFact) -> Commit:
    raw = [msgspec.Raw(fact if isinstance(fact, bytes) else encode(fact)) for fact in facts]
    return Commit(id="i", at=NOON, actor="a", cause="c", chain="h", facts=raw)


async def stored(store: MemoryStore, *texts: str) -> int:
    last = 0
    for text in texts:
        last = await store.append(
            "note",
            f"n{text}",
            commit(NoteWritten(text=text)),
            expected=await store.version("note", f"n{text}"),
        )
    return last


def table(folder: Path, version: int = 1) -> Table:
    return Table(folder / "notes.sqlite", version=version, schema=SCHEMA, aggregates={"note"}, rows=rows)


@asynccontextmanager
async def running(store: MemoryStore, *views: Any) -> AsyncIterator[Follower]:
    follower = Follower("notes", store, {"note": NOTE_CODEC}, strict={"note"})
    tasks = []
    for view in views:
        if isinstance(view, Table):
            await view.open(await store.identity(), await store.last_sequence())
            tasks.append(asyncio.ensure_future(view.run()))
        follower.add(view)
    tasks.append(asyncio.ensure_future(follower.run()))
    try:
        yield follower
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for view in views:
            if isinstance(view, Table):
                await view.close()


async def texts(view: Table) -> list[str]:
    return [text for (text,) in await view.read("SELECT text FROM notes ORDER BY sequence")]


async def test_a_table_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(store, first := table(tmp_path)) as follower:
        await follower.reached(await stored(store, "a", "b"))
        assert await texts(first) == ["a", "b"]
    async with running(store, again := table(tmp_path)) as follower:
        assert again.position == 2
        await follower.reached(await stored(store, "c"))
        assert await texts(again) == ["a", "b", "c"]


async def test_a_table_of_another_log_is_built_again(tmp_path: Path) -> None:
    old, new = MemoryStore(), MemoryStore()
    async with running(old, first := table(tmp_path)) as follower:
        await follower.reached(await stored(old, "a", "b"))
        assert await texts(first) == ["a", "b"]
    async with running(new, again := table(tmp_path)) as follower:
        await follower.reached(await stored(new, "c", "d", "e"))
        assert await texts(again) == ["c", "d", "e"]


async def test_a_broken_file_is_built_again(tmp_path: Path) -> None:
    (tmp_path / "notes-v1.sqlite").write_bytes(b"this is no database" * 100)
    store = MemoryStore()
    async with running(store, view := table(tmp_path)) as follower:
        await follower.reached(await stored(store, "a"))
        assert await texts(view) == ["a"]


async def test_a_batch_that_fails_half_way_leaves_no_trace_and_is_written_later(tmp_path: Path) -> None:
    store = MemoryStore()
    view = table(tmp_path)
    await view.open(await store.identity(), 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "notes-v1.sqlite")) as other, other:
        other.execute("BEGIN EXCLUSIVE")
        taken = Recorded[NoteFact](
            facts=(NoteWritten(text="a"),),
            commit_id="i",
            aggregate="note",
            aggregate_id="n",
            sequence=1,
            at=NOON,
            cause=CAUSE,
        )
        view.take([taken], 1)
        view._file._writer.execute("PRAGMA busy_timeout = 0")  # type: ignore[union-attr]
        with pytest.raises(sqlite3.OperationalError):
            await view.write()
    other.close()
    await view.write()
    assert await texts(view) == ["a"]
    await view.close()


class FullDisk:
    """Rows of notes on a disk that takes nothing until there is room."""

    def __init__(self) -> None:
        self.full = True

    def rows(self, batch: Sequence[Recorded[Any]], read: Read) -> list[Statement]:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return rows(batch, read)

    def table(self, folder: Path) -> Table:
        return Table(folder / "notes.sqlite", version=1, schema=SCHEMA, aggregates={"note"}, rows=self.rows)


async def test_who_reads_from_a_full_disk_is_told_so_and_loses_nothing(tmp_path: Path) -> None:
    store, disk = MemoryStore(), FullDisk()
    async with running(store, view := disk.table(tmp_path)) as follower:
        await follower.reached(await stored(store, "a", "b"))
        with pytest.raises(Unavailable, match="disk is full"):
            await texts(view)
        assert "disk is full" in view.problem

        disk.full = False
        await follower.reached(await stored(store, "c"))
        assert await texts(view) == ["a", "b", "c"]


async def test_a_full_disk_at_the_end_leaves_a_view_that_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store, disk = MemoryStore(), FullDisk()
    async with running(store, disk.table(tmp_path)) as follower:
        await follower.reached(await stored(store, "a", "b"))
    async with running(store, again := table(tmp_path)) as follower:
        await follower.reached(2)
        assert await texts(again) == ["a", "b"]


async def test_a_write_that_was_broken_off_is_never_counted_as_written(tmp_path: Path) -> None:
    store = MemoryStore()
    begun, go_on = threading.Event(), threading.Event()

    def slow_then_full(batch: Sequence[Recorded[Any]], read: Read) -> list[Statement]:
        if batch:
            begun.set()
            go_on.wait(10)
            raise sqlite3.OperationalError("database or disk is full")
        return []

    view = Table(
        tmp_path / "notes.sqlite", version=1, schema=SCHEMA, aggregates={"note"}, rows=slow_then_full
    )
    async with running(store, view) as follower:
        await follower.reached(await stored(store, "a"))
        await asyncio.to_thread(begun.wait, 10)
        asyncio.get_running_loop().call_soon(go_on.set)
    async with running(store, again := table(tmp_path)) as follower:
        await follower.reached(1)
        assert await texts(again) == ["a"]


async def test_a_view_says_when_it_is_behind() -> None:
    store = MemoryStore()
    seen: list[int] = []
    view: MemoryView[NoteFact] = MemoryView("seen", {"note"}, lambda each: seen.append(each.sequence))
    async with running(store, view) as follower:
        await follower.reached(await stored(store, "a"))
        assert seen == [1]
        with pytest.raises(Behind):
            await follower.reached(2, within_s=0.01)


async def test_an_owners_view_stops_at_a_fact_it_cannot_read() -> None:
    store = MemoryStore()
    seen: list[int] = []
    follower = Follower("notes", store, {"note": NOTE_CODEC}, strict={"note"})
    follower.add(MemoryView("seen", {"note"}, lambda each: seen.append(each.sequence)))
    await store.append("note", "n", commit(b'{"fact":"NoteSung"}'), expected=0)

    with pytest.raises(Undecodable, match="NoteSung"):
        await follower.run()
    assert seen == []


async def test_who_only_listens_skips_what_it_does_not_hear() -> None:
    store = MemoryStore()
    seen: list[tuple[NoteFact, ...]] = []
    view: MemoryView[NoteFact] = MemoryView("seen", {"note"}, lambda each: seen.append(each.facts))
    follower = Follower("other", store, {"note": NOTE_CODEC}, strict=())
    follower.add(view)
    await store.append("note", "n", commit(b'{"fact":"NoteSung"}', NoteWritten(text="a")), expected=0)
    task = asyncio.ensure_future(follower.run())

    await follower.reached(1)

    assert [(NoteWritten(text="a"),)] == seen
    task.cancel()
