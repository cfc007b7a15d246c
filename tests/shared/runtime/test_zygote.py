"""How processes are started by forking."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from shared.kernel.errors import Unavailable
from shared.runtime.zygote import ROOT, Exit, Zygote

CHILDREN = "tests.shared.runtime.zygote_children"
PATH = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
async def zygote(tmp_path: Path) -> AsyncIterator[Zygote]:
    zygote = Zygote.start([CHILDREN, "services.there_is_none"], log=tmp_path / "zygote.log")
    yield zygote
    zygote.close()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(true: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # the system tells nobody of a stranger's end
            await asyncio.sleep(0.01)


def said(folder: Path) -> str:
    log = folder / "log"
    return log.read_text() if log.exists() else ""


async def next_exit(zygote: Zygote) -> Exit:
    async with asyncio.timeout(10):
        return await anext(aiter(zygote.exits()))


async def test_fifty_children_start_quickly_and_each_end_is_reported(zygote: Zygote, tmp_path: Path) -> None:
    await zygote.fork("warm", f"{CHILDREN}:end_with_three", env={}, stdout=tmp_path / "log")
    began = time.monotonic()
    pids = {
        await zygote.fork(f"child-{n}", f"{CHILDREN}:idle", env={}, stdout=tmp_path / "log")
        for n in range(50)
    }
    print(f"\nfork: {(time.monotonic() - began) / 50 * 1000:.2f} ms each")
    memory = psutil.Process(min(pids)).memory_full_info()
    print(f"idle child: {memory.pss / 1e6:.1f} MB PSS, {memory.rss / 1e6:.1f} MB RSS")

    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ended = [await next_exit(zygote) for _ in range(51)]

    assert ended[0].code == 3
    assert pids == {one.pid for one in ended[1:]}
    assert {"signal 9"} == {one.reason for one in ended[1:]}


async def test_a_child_gets_the_environment_folder_and_limits_it_was_given(
    zygote: Zygote, tmp_path: Path
) -> None:
    await zygote.fork(
        "teller",
        f"{CHILDREN}:tell",
        env={"ONE": "1"},
        stdout=tmp_path / "log",
        cwd=tmp_path,
        limits={"nofile": 99},
    )

    assert (await next_exit(zygote)).code == 0
    assert f"{tmp_path} ['ONE'] 99 True" == (tmp_path / "log").read_text().strip()


async def test_a_listening_socket_is_handed_on(zygote: Zygote, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await zygote.fork(
            "answerer",
            f"{CHILDREN}:answer_on_inherited_socket",
            env={},
            stdout=tmp_path / "log",
            fds={"LISTEN_FD": listening.fileno()},
        )
        reader, writer = await asyncio.open_connection(*listening.getsockname())

        assert await reader.read() == b"hello"
        writer.close()


async def test_a_child_that_falls_takes_nobody_along(zygote: Zygote, tmp_path: Path) -> None:
    other = await zygote.fork("idle", f"{CHILDREN}:idle", env={}, stdout=tmp_path / "log")

    await zygote.fork("fall", f"{CHILDREN}:fall", env={}, stdout=tmp_path / "log")

    assert (await next_exit(zygote)).code == 1
    assert "a child's own trouble" in (tmp_path / "log").read_text()
    assert alive(other)


async def test_an_unknown_target_ends_with_its_reason_in_the_log(zygote: Zygote, tmp_path: Path) -> None:
    await zygote.fork("none", f"{CHILDREN}:nothing", env={}, stdout=tmp_path / "log")

    assert (await next_exit(zygote)).code == 70
    assert "nothing" in (tmp_path / "log").read_text()


async def test_what_a_killed_child_started_is_killed_too(zygote: Zygote, tmp_path: Path) -> None:
    pid = await zygote.fork("parent", f"{CHILDREN}:leave_a_child_behind", env=PATH, stdout=tmp_path / "log")
    await until(lambda: said(tmp_path).endswith("\n"))
    left = int(said(tmp_path))

    os.kill(pid, signal.SIGKILL)

    assert (await next_exit(zygote)).reason == "signal 9"
    await until(lambda: not alive(left))


async def test_a_module_that_is_not_there_is_left_out_and_said(zygote: Zygote, tmp_path: Path) -> None:
    await zygote.fork("one", f"{CHILDREN}:end_with_three", env={}, stdout=tmp_path / "log")

    assert "services.there_is_none is left out" in (tmp_path / "zygote.log").read_text()


async def test_closing_ends_even_a_child_that_ignores_sigterm(zygote: Zygote, tmp_path: Path) -> None:
    stubborn = await zygote.fork("stubborn", f"{CHILDREN}:ignore_sigterm", env={}, stdout=tmp_path / "log")
    await until(lambda: "ready" in said(tmp_path))

    zygote.close()

    assert not alive(stubborn)
    with pytest.raises(Unavailable):
        await zygote.fork("late", f"{CHILDREN}:idle", env={}, stdout=tmp_path / "log")


OWNER = """
import asyncio, sys
from pathlib import Path
from shared.runtime.zygote import Zygote

async def main():
    zygote = Zygote.start([sys.argv[1]], log=Path(sys.argv[2]))
    log, idle = Path(sys.argv[2]), sys.argv[1] + ":idle"
    pids = [await zygote.fork("idle", idle, env={}, stdout=log) for _ in range(5)]
    print(zygote.pid, *pids, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_an_owner_killed_with_kill_9_leaves_nobody(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, CHILDREN, str(tmp_path / "log")), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert owner.stdout is not None
    pids = [int(word) for word in (await owner.stdout.readline()).split()]
    assert len(pids) == 6

    owner.kill()
    await owner.wait()

    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_zygote_killed_with_kill_9_takes_its_children_and_its_owner_hears_of_it(
    zygote: Zygote, tmp_path: Path
) -> None:
    pid = await zygote.fork("idle", f"{CHILDREN}:idle", env={}, stdout=tmp_path / "log")

    os.kill(zygote.pid, signal.SIGKILL)

    async with asyncio.timeout(10):
        assert not [one async for one in zygote.exits()]
    await until(lambda: not alive(pid))
