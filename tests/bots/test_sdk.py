"""Write your own bot: the page's own example, run as it stands."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bots.sdk import Bot, Failed, Task
from shared.contracts.orchestrator.commands import Done, Undone
from tests.bots.overseer import Overseer, live_chunks, oversee
from tests.support.nats_server import LocalBroker

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def working(broker: LocalBroker, work) -> AsyncIterator[Overseer]:
    async with oversee(broker, "alpha") as overseer:
        bot = Bot(broker.url, broker.creds("bot-alpha"), "alpha", slots=2)
        running = asyncio.ensure_future(bot.run(work))
        await overseer.up("alpha")
        yield overseer
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await running


async def test_the_documented_bot_works(broker: LocalBroker, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "bot-protocol.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    script = tmp_path / "shouter.py"
    script.write_text(example[1])
    told = {
        "HIVE_BOT": "shouter",
        "HIVE_NATS_URL": broker.url,
        "HIVE_CREDS": str(broker.creds("bot-shouter")),
        "PYTHONPATH": str(ROOT),
    }
    async with oversee(broker, "shouter") as overseer:
        bot = await asyncio.create_subprocess_exec(sys.executable, str(script), env={**os.environ, **told})
        await overseer.up("shouter")

        await overseer.assign(7, "hello", bot="shouter")
        end = (await overseer.reported(7)).end

        assert isinstance(end, Done)
        assert end.output.text == "HELLO"
        assert [chunk.text for chunk in await live_chunks(broker, "task-7")] == ["thinking about it\n"]
        bot.terminate()
        assert await bot.wait() == 0


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
