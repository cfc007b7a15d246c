"""One bot of the crash test, a process of its own: talks to the others until told to stop, and keeps a diary.

A line is written without a buffer, before anybody else can know what it says: a kill -9 takes none back.
"""

import asyncio
import os
import sys
from itertools import count
from pathlib import Path
from random import Random

import msgspec

from bots.sdk import Bot, Failed, Message, Priority
from shared.kernel.errors import Unavailable
from shared.runtime.clock import now
from shared.runtime.ids import new_id
from tests.crash.diary import BAD, TTL_SHORT_S, Asks, Began, Did, Line, Sent

AT_ONCE = 3
PAUSE_S = (0.05, 0.2)


class Talking:
    """What the process does beside what the SDK does."""

    def __init__(self, bot: Bot, name: str, folder: Path, chance: Random) -> None:
        self._bot = bot
        self._name = name
        self._others = [each for each in os.environ["HIVE_TEST_BOTS"].split(",") if each != name]
        self._stop = folder / "stop"
        self._diary = os.open(folder / f"{name}.diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._chance = chance
        self._numbers = count()
        self._life = new_id()
        self._write(Began(at=now(), life=self._life))

    async def on_message(self, message: Message) -> None:
        """Do what it says: write it down. What is bad cannot be done."""
        if BAD in message.content:
            raise Failed("bad", "nobody can do that")
        self._write(
            Did(
                life=self._life,
                id=message.id,
                sender=message.sender,
                priority=message.priority,
                sequence=message.sequence,
            )
        )

    async def talk(self) -> None:
        """Send to the others, some at once, until the stop file is there; then wait to be told to end."""
        while not self._stop.exists():
            to = self._chance.choice(self._others)
            priority = self._chance.choice(list(Priority))
            kind = self._chance.random()
            content = f"{self._name} {self._life} {next(self._numbers)} {BAD if kind < 0.02 else ''}"
            ttl_s = TTL_SHORT_S if 0.02 < kind < 0.08 else 3600.0
            self._write(Asks(content=content))
            try:
                message_id = await self._bot.send(to, content, priority=priority, ttl_s=ttl_s)
            except Unavailable:
                continue  # the process is about to end: nobody knows whether it was accepted
            self._write(Sent(id=message_id, content=content))
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    def _write(self, line: Line) -> None:
        os.write(self._diary, msgspec.json.encode(line) + b"\n")


async def main(name: str, folder: Path, seed: int) -> None:
    """Until the process is killed, or gets a SIGTERM."""
    bot = Bot.from_env()
    talking = Talking(bot, name, folder, Random(f"{seed} {name}"))
    async with asyncio.TaskGroup() as group:
        life = group.create_task(bot.run(on_message=talking.on_message))
        mouths = [group.create_task(talking.talk()) for _ in range(AT_ONCE)]
        await life
        for mouth in mouths:
            mouth.cancel()


if __name__ == "__main__":
    asyncio.run(main(os.environ["HIVE_BOT"], Path(sys.argv[1]), int(sys.argv[2])))
