"""Messages under measurement: how many a second, how long on their way, a burst, and many WebSockets."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import processes
from benchmarks.hive import Hive
from benchmarks.talker import Say, SayEvenly, text
from benchmarks.talkers import Talker, talkers

PAIRS: Final = 4
EACH: Final = 1_500
IN_FLIGHT: Final = 64  # of each pair
RUNS: Final = 3
PER_S: Final = 200
EVENLY_S: Final = 10
BURST_BOTS: Final = 5
BURST_EACH: Final = 10
SOCKETS: Final = 200
SETTLE_S: Final = 3.0
HEARD_WITHIN_S: Final = 30.0
GATEWAY: Final = "gateway"
TALKERS: Final = "talking bot"


async def speed(hive: Hive) -> dict[str, Any]:
    """Messages a second and CPU for each, the time on the way at a steady 200 a second, and a burst."""
    names = [f"{side}-{number}" for number in range(PAIRS) for side in ("says", "hears")]
    async with talkers(hive, names) as talking:
        pairs = list(zip(talking[::2], talking[1::2], strict=True))
        await _rate(pairs, EACH // 5)  # what a hive does only once is done
        before = _cpu(hive, talking)
        rates = [await _rate(pairs, EACH) for _ in range(RUNS)]
        cpu = processes.cpu_us_each(before, _cpu(hive, talking), RUNS * EACH * PAIRS)
        took = await _evenly(pairs)
        burst_s = await _burst(hive, talking[:BURST_BOTS])
    cuts = statistics.quantiles(took, n=100)
    return {
        "messages_per_s": round(statistics.median(rates)),
        "latency_at_200_ms": {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2)},
        "burst_50_s": round(burst_s, 3),
        "cpu_us_per_message": cpu,
    }


async def sockets(hive: Hive) -> dict[str, float]:
    """By how much the gateway grows for each open WebSocket."""
    names = [f"watched-{number}" for number in range(BURST_BOTS)]
    async with hive.client() as client:
        for name in names:
            await client.post("/v1/bots?wait=30", {"name": name, "engine": "echo"})
    gateway = hive.groups()[GATEWAY]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(await _open(hive, names[0]))  # what the first of all brings
        await asyncio.sleep(SETTLE_S)
        before = _memory(gateway)
        opened = [
            await stack.enter_async_context(await _open(hive, names[number % len(names)]))
            for number in range(SOCKETS)
        ]
        await asyncio.sleep(SETTLE_S)
        after = _memory(gateway)
        await _all_hear(hive, opened, names)
    return {name: round((after[name] - before[name]) / SOCKETS / processes.KIB, 1) for name in ("pss", "rss")}


async def _rate(pairs: Sequence[tuple[Talker, Talker]], each: int) -> float:
    """Messages a second, from the first that is begun until the last was handled."""
    async with asyncio.TaskGroup() as group:
        heard = [group.create_task(hears.hear(each)) for _, hears in pairs]
        said = [group.create_task(says.say(Say(hears.name, each, IN_FLIGHT))) for says, hears in pairs]
    for (_, hears), told in zip(pairs, heard, strict=True):
        _all_in_order(hears, told.result().numbers, each)
    took = max(each.result().last_at for each in heard) - min(each.result().began for each in said)
    return each * len(pairs) / took


async def _evenly(pairs: Sequence[tuple[Talker, Talker]]) -> list[float]:
    """Milliseconds from the moment at which each message was to be sent until it was handled."""
    count = PER_S * EVENLY_S // len(pairs)
    order = [(says, SayEvenly(hears.name, count, PER_S / len(pairs))) for says, hears in pairs]
    async with asyncio.TaskGroup() as group:
        heard = [group.create_task(hears.hear(count)) for _, hears in pairs]
        for says, wish in order:
            group.create_task(says.say(wish))
    return sorted(ms for each in heard for ms in each.result().took_ms)


async def _burst(hive: Hive, bots: Sequence[Talker]) -> float:
    """Seconds from the first of ten requests for each of five bots until the last message was handled."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        heard = [group.create_task(bot.hear(BURST_EACH)) for bot in bots]
        for bot in bots:
            group.create_task(_send_ten(hive, bot.name))
    for bot, told in zip(bots, heard, strict=True):
        _all_in_order(bot, told.result().numbers, BURST_EACH)
    return max(each.result().last_at for each in heard) - began


async def _send_ten(hive: Hive, name: str) -> None:
    async with hive.client() as client:
        for number in range(BURST_EACH):
            await client.post("/v1/messages", {"to": name, "content": text(number, time.monotonic())})


async def _all_hear(hive: Hive, opened: Sequence[ClientConnection], names: Sequence[str]) -> None:
    """A chat with each bot comes to every WebSocket of it: those that were counted are alive."""
    async with hive.client() as client:
        for name in names:
            await client.post("/v1/messages", {"to": name, "content": name, "kind": "chat"})
    async with asyncio.timeout(HEARD_WITHIN_S), asyncio.TaskGroup() as group:
        for number, socket in enumerate(opened):
            group.create_task(_hears(socket, names[number % len(names)]))


async def _hears(socket: ClientConnection, name: str) -> None:
    while True:
        frame = msgspec.json.decode(await socket.recv())
        if frame["type"] == "text" and frame["message"]["sender"] == name:
            assert frame["message"]["content"] == name, frame
            return


async def _open(hive: Hive, name: str) -> ClientConnection:
    running = hive.running
    client = hive.client()
    return await connect(
        f"ws://{running.host}:{running.port}/v1/bots/{name}/ws",
        additional_headers={"Authorization": f"Bearer {client.key}"},
        compression=None,
    )


def _all_in_order(talker: Talker, numbers: dict[str, list[int]], count: int) -> None:
    assert list(numbers.values()) == [list(range(count))], (
        f"{talker.name} did not get what was sent to it, once and in order"
    )


def _cpu(hive: Hive, talking: Sequence[Talker]) -> dict[str, float]:
    return processes.cpu_of({**hive.groups(), TALKERS: [talker.pid for talker in talking]})


def _memory(pids: Sequence[int]) -> dict[str, int]:
    return {"pss": sum(map(processes.pss_bytes, pids)), "rss": sum(map(processes.rss_bytes, pids))}
