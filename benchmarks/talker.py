"""One bot of the benchmark, a process of its own: `python -m benchmarks.talker` as HIVE_BOT.

Each line of its standard input is an order; it answers each with a line.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, assert_never

import msgspec
import uvloop

from bots.sdk import Bot, Message
from shared.runtime.clock import monotonic

CHARACTERS: Final = 200  # of each message
SLOTS: Final = 8


class Say(msgspec.Struct, frozen=True, tag="say", tag_field="do"):
    """Send `count` messages, so many in flight; answered when all are accepted."""

    to: str
    count: int
    in_flight: int


class SayEvenly(msgspec.Struct, frozen=True, tag="say_evenly", tag_field="do"):
    """Send `count` messages, `per_s` a second, each at its moment whatever became of those before."""

    to: str
    count: int
    per_s: float


class Hear(msgspec.Struct, frozen=True, tag="hear", tag_field="do"):
    """Answered when `count` messages have come since the last such order; then they are forgotten."""

    count: int


class Said(msgspec.Struct, frozen=True):
    """When the first was begun, on the clock that all processes of a machine share."""

    began: float


class Heard(msgspec.Struct, frozen=True):
    """When the last one came, how long each was on its way, and their numbers by sender, as they came."""

    last_at: float
    took_ms: list[float]
    numbers: dict[str, list[int]]


Order = Say | SayEvenly | Hear
_orders = msgspec.json.Decoder(Order)


class Ears:
    """What came."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._took_ms: list[float] = []
        self._last_at = 0.0
        self._came = asyncio.Event()

    async def on_message(self, message: Message) -> None:
        """A message starts with its number, and the moment it was to be sent where its sender says so."""
        number, sent_at = message.content.split()[:2]
        self._last_at = monotonic()
        self._took_ms.append((self._last_at - float(sent_at)) * 1000)
        self._numbers[message.sender].append(int(number))
        self._came.set()

    async def hear(self, count: int) -> Heard:
        """So many."""
        while len(self._took_ms) < count:
            self._came.clear()
            await self._came.wait()
        heard = Heard(self._last_at, self._took_ms, dict(self._numbers))
        self._took_ms, self._numbers = [], defaultdict(list)
        return heard


def text(number: int, sent_at: float) -> str:
    """What a message says."""
    return f"{number} {sent_at:.6f} ".ljust(CHARACTERS, "x")


async def _say(bot: Bot, order: Say) -> Said:
    began = monotonic()

    async def each(numbers: Iterator[int]) -> None:
        for number in numbers:
            await bot.send(order.to, text(number, monotonic()))

    numbers = iter(range(order.count))
    async with asyncio.TaskGroup() as group:
        for _ in range(order.in_flight):
            group.create_task(each(numbers))
    return Said(began)


async def _say_evenly(bot: Bot, order: SayEvenly) -> Said:
    began = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(order.count):
            at = began + number / order.per_s
            await asyncio.sleep(max(0.0, at - monotonic()))
            group.create_task(bot.send(order.to, text(number, at)))
    return Said(began)


async def _obey(bot: Bot, ears: Ears) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    while line := await reader.readline():
        answer = await _do(bot, ears, _orders.decode(line))
        print(msgspec.json.encode(answer).decode(), flush=True)
    await bot.drain()


async def _do(bot: Bot, ears: Ears, order: Order) -> Said | Heard:
    match order:
        case Say():
            return await _say(bot, order)
        case SayEvenly():
            return await _say_evenly(bot, order)
        case Hear():
            return await ears.hear(order.count)
        case _:
            assert_never(order)


async def main() -> None:
    """Be the bot until the standard input ends."""
    bot, ears = Bot.from_env(slots=SLOTS), Ears()
    async with asyncio.TaskGroup() as group:
        group.create_task(bot.run(on_message=ears.on_message))
        group.create_task(_obey(bot, ears))


if __name__ == "__main__":
    uvloop.run(main())
