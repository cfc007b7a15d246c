"""Write your own bot: the page's own example, run as it stands."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bots.sdk import Bot, Failed, Handler, Task
from shared.contracts.orchestrator.commands import Done, Undone
from tests.bots.overseer import Overseer, live_chunks, oversee
from tests.bots.postmaster import messenger
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def working(broker: LocalBroker, work: Handler) -> AsyncIterator[Overseer]:
    async with oversee(broker, "alpha") as overseer:
        bot = Bot(broker.url, broker.creds("bot-alpha"), "alpha", slots=2)
        running = asyncio.ensure_future(bot.run(work))
        await overseer.up("alpha")
        yield overseer
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await running


def example(number: int, script: Path) -> Path:
    """A script of the page, as it stands there."""
    page = (ROOT / "docs" / "bot-protocol.md").read_text()
    script.write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number])
    return script


async def start(broker: LocalBroker, name: str, script: Path, *argv: str, **more: Any) -> Process:
    told = {
        "HIVE_BOT": name,
        "HIVE_NATS_URL": broker.url,
        "HIVE_CREDS": str(broker.creds(f"bot-{name}")),
        "PYTHONPATH": str(ROOT),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, str(script), *argv, env={**os.environ, **told}, **more
    )


async def test_the_documented_bot_works(broker: LocalBroker, tmp_path: Path) -> None:
    script = example(0, tmp_path / "shouter.py")
    async with oversee(broker, "shouter") as overseer:
        bot = await start(broker, "shouter", script)
        await overseer.up("shouter")

        await overseer.assign(7, "hello", bot="shouter")
        end = (await overseer.reported(7)).end

        assert isinstance(end, Done)
        assert end.output.text == "HELLO"
        assert [chunk.text for chunk in await live_chunks(broker, "task-7")] == ["thinking about it\n"]
        bot.terminate()
        assert await bot.wait() == 0


async def test_the_documented_bots_play_ping_pong(broker: LocalBroker, tmp_path: Path) -> None:
    script = example(2, tmp_path / "pingpong.py")
    async with oversee(broker, "ping", "pong"), messenger(broker):
        pong = await start(broker, "pong", script)
        ping = await start(broker, "ping", script, "pong", stdout=asyncio.subprocess.PIPE)

        async with asyncio.timeout(30):
            said, _ = await ping.communicate()

        assert said.decode().splitlines() == [f"pong: pong {number}" for number in range(1, 11)]
        assert ping.returncode == 0
        pong.terminate()
        assert await pong.wait() == 0


async def test_what_was_written_is_the_output_of_a_function_that_returns_nothing(broker: LocalBroker) -> None:
    async def work(task: Task) -> None:
        task.write(f"{task.type} {task.attempt} ")
        task.write(f"{task.id} {task.input}")

    async with working(broker, work) as overseer:
        await overseer.assign(7, given="given")
        end = (await overseer.reported(7)).end

    assert isinstance(end, Done)
    assert end.output.text == "other 1 task-7 given"


async def test_a_function_says_how_it_failed(broker: LocalBroker) -> None:
    async def work(task: Task) -> str:
        raise Failed("no_idea", "what is that?", retryable=False)

    async with working(broker, work) as overseer:
        await overseer.assign(7)
        end = (await overseer.reported(7)).end

    assert isinstance(end, Undone)
    assert (end.error.code, end.error.detail, end.retryable) == ("no_idea", "what is that?", False)
