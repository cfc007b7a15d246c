"""WebSockets of a whole hive: whatever dies on the way, nothing that was said is lost or told twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.support.chat import Client, client
from tests.support.embedded import EmbeddedHive, embedded_hive, eventually, kill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ALPHA = "/v1/bots/alpha/ws"
GONE = (OSError, WebSocketException, TimeoutError)


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[EmbeddedHive]:
    async with embedded_hive(tmp_path) as made:
        await made.launch("alpha", engine="echo")
        await made.launch("beta", engine="shell", workspace=str(Path(__file__).parents[2]))
        yield made


@asynccontextmanager
async def talking(hive: EmbeddedHive, path: str = ALPHA) -> AsyncIterator[Client]:
    running = hive.running()
    secret = Path(running.admin_key).read_text().strip()
    async with client(f"{running.url.replace('http', 'ws', 1)}{path}", secret, max_queue=None) as opened:
        yield opened


async def test_a_bot_answers_and_its_answer_is_read(hive: EmbeddedHive) -> None:
    async with talking(hive, "/v1/bots/beta/ws") as person:
        hello = await person.next()
        await person.say(type="text", ref="1", content="git --version")
        frames = [await person.next("accepted", "text") for _ in range(3)]
        (accepted,) = [frame for frame in frames if frame["type"] == "accepted"]
        question, answer = [frame for frame in frames if frame["type"] == "text"]
        assert question["message"]["id"] == accepted["id"]
        assert answer["message"]["in_reply_to"] == accepted["id"]
        assert answer["message"]["content"].startswith("git version")
        assert hello["after"] < question["sequence"] < answer["sequence"]
        await person.say(type="ack", sequence=answer["sequence"])
        assert (await person.next("read"))["messages"] == 1
    async with hive.client() as http:
        shown = (await http.get(f"/v1/messages/{answer['message']['id']}")).json()
    assert (shown["state"], shown["recipient"]) == ("read", hello["party"])


async def test_what_a_bot_writes_while_it_answers_is_shown(hive: EmbeddedHive) -> None:
    async with talking(hive, "/v1/bots/beta/ws") as person:
        slowly = "import time; [(print(n, flush=True), time.sleep(0.2)) for n in range(5)]"
        await person.say(type="text", ref="live", content=f'python3 -c "{slowly}"')
        question = (await person.next("accepted"))["id"]
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1].get("message", {}).get("in_reply_to") != question:
            frames.append(await person.next("live", "text"))
    live = [frame for frame in frames if frame["type"] == "live"]
    assert {frame["message_id"] for frame in live} == {question}
    assert [frame["index"] for frame in live] == list(range(len(live)))
    assert frames[-1]["message"]["content"].startswith("".join(frame["text"] for frame in live).rstrip("\n"))
    assert len(live) >= 2


async def test_everything_said_is_told_once_and_in_order_across_what_dies(hive: EmbeddedHive) -> None:
    count = 600
    told: list[tuple[int, str]] = []
    finished = asyncio.Event()

    async def listen() -> None:
        after = 0
        while len(told) < count:
            with suppress(*GONE):
                async with talking(hive, f"{ALPHA}?after={after}") as person:
                    while len(told) < count:
                        text = await person.next("text")
                        told.append((text["sequence"], text["message"]["content"]))
                        after = text["sequence"]
            await asyncio.sleep(0.05)
        finished.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        tasks.create_task(say(hive, range(count), at_once=8))
        for place, service in enumerate(("messenger", "gateway", "messenger", "gateway"), start=1):
            async with asyncio.timeout(60):
                while len(told) < place * 100:
                    await asyncio.sleep(0.01)
            kill(hive.running().services[service])
        async with asyncio.timeout(120):
            await finished.wait()
    assert sorted(content for _, content in told) == sorted(f"said {number}" for number in range(count))
    assert [sequence for sequence, _ in told] == sorted({sequence for sequence, _ in told})


async def test_a_task_is_followed_to_its_end_and_from_the_middle(hive: EmbeddedHive) -> None:
    content = 'python3 -c "import time; [(print(n, flush=True), time.sleep(0.1)) for n in range(8)]"'
    async with hive.client() as http:
        task = (
            await http.post("/v1/tasks", json={"content": content, "bot": "beta", "engine": "shell"})
        ).json()
    path = f"/v1/tasks/{task['id']}/ws"
    async with talking(hive, path) as person:
        chunks = [await person.next("chunk")]
        while (frame := await person.next())["type"] == "chunk":
            chunks.append(frame)
        assert (await person.closed())[0] == 1000
    assert frame["task"]["state"] == "completed"
    assert "".join(chunk["text"] for chunk in chunks) == "".join(f"{n}\n" for n in range(8))
    async with talking(hive, f"{path}?after={chunks[1]['sequence']}") as person:
        again = [await person.next() for _ in range(len(chunks) - 1)]
    assert [frame["type"] for frame in again] == ["chunk"] * (len(chunks) - 2) + ["end"]
    assert again[:-1] == chunks[2:]


async def test_a_hive_that_stops_says_where_to_go_on(hive: EmbeddedHive) -> None:
    async with talking(hive) as person, asyncio.TaskGroup() as tasks:
        await person.next("hello")
        tasks.create_task(asyncio.to_thread(hive.stop))
        assert await person.closed() == (1012, "moved: come again with ?after=0")


async def say(hive: EmbeddedHive, numbers: range, at_once: int) -> None:
    """Have the bot say so much to us; each is asked for until it is decided."""
    waiting = iter(numbers)

    async def some() -> None:
        async with hive.client() as http:
            for number in waiting:
                await eventually(lambda number=number: _accepted(http, number), within_s=60)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(some())


async def _accepted(http: httpx.AsyncClient, number: int) -> bool:
    wish = {"from": "alpha", "to": "@first", "content": f"said {number}"}
    answer = await http.post("/v1/messages", json=wish, headers={"Idempotency-Key": f"said-{number}"})
    return answer.status_code == 201
