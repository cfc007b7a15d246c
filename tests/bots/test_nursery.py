"""A host without bots has no zygote; the first bot brings one."""

import asyncio
from pathlib import Path

import pytest

from bots.nursery import Nursery
from shared.kernel.errors import Unavailable
from shared.runtime.zygote import Exit, Zygote

CHILDREN = "tests.shared.runtime.zygote_children"
PATH = {"PATH": "/usr/bin:/bin"}


async def test_the_first_fork_starts_it_once_and_ends_are_heard(tmp_path: Path) -> None:
    started: list[Zygote] = []

    def start() -> Zygote:
        started.append(Zygote.start([CHILDREN], log=tmp_path / "zygote.log"))
        return started[-1]

    nursery = Nursery(start)
    try:
        hearing = aiter(nursery.exits())
        first = asyncio.ensure_future(anext(hearing))
        assert started == []
        pids = [
            await nursery.fork("child", f"{CHILDREN}:end_with_three", env=PATH, stdout=tmp_path / "log")
            for _ in range(2)
        ]
        async with asyncio.timeout(10):
            ends = [await first, await anext(hearing)]
        assert sorted(ends, key=lambda end: end.pid) == [Exit(pid=pid, code=3) for pid in sorted(pids)]
        assert len(started) == 1
    finally:
        nursery.close()


async def test_one_that_was_never_needed_closes_and_starts_nothing_more(tmp_path: Path) -> None:
    def start() -> Zygote:
        raise AssertionError

    nursery = Nursery(start)
    nursery.close()
    with pytest.raises(Unavailable):
        await nursery.fork("child", f"{CHILDREN}:idle", env=PATH, stdout=tmp_path / "log")
