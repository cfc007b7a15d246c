"""The heart alone: when it beats, and when it says that its bot is cut off."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bots.heart import Heart
from bots.lease import LASTS_S
from bots.pace import INTERVAL_S
from shared.contracts.orchestrator.protocol import Heartbeat, HeartbeatAnswer
from shared.contracts.words import BotId
from shared.runtime.clock import monotonic
from shared.runtime.connection import connect
from tests.bots.overseer import Overseer, oversee
from tests.support.nats_server import LocalBroker

ALPHA = BotId("alpha")
LATE_S = 0.6
SOON_S = 25.0


class Torso:
    """What a heart beats for, and nothing else."""

    def __init__(self) -> None:
        self.answered_at: list[float] = []
        self.cut_off_at: list[float] = []
        self._news = asyncio.Event()

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(bot_id=ALPHA, generation=1, pid=1, host="local")

    def has_news(self) -> bool:
        return True

    def on_answer(self, answer: HeartbeatAnswer, gone: frozenset[int]) -> None:
        self.answered_at.append(monotonic())
        self._news.set()

    def on_cut_off(self) -> None:
        self.cut_off_at.append(monotonic())
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_S):
            while not true():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def beating(broker: LocalBroker) -> AsyncIterator[tuple[Heart, Torso, Overseer]]:
    async with oversee(broker, "alpha") as overseer:
        connection = await connect(broker.settings("bot-alpha"))
        torso = Torso()
        heart = Heart(connection, ALPHA, torso)
        life = asyncio.ensure_future(heart.run())
        try:
            yield heart, torso, overseer
        finally:
            life.cancel()
            await asyncio.wait([life])
            await connection.close(drain=False)


async def test_news_are_told_at_once_and_the_beats_of_each_second_come_all_the_same(
    broker: LocalBroker,
) -> None:
    async with beating(broker) as (heart, torso, _):
        await torso.until(lambda: len(torso.answered_at) >= 2)
        before, began = len(torso.answered_at), monotonic()
        news = 0
        while monotonic() - began < 3 * INTERVAL_S:
            news += 1
            heart.now()
            await asyncio.sleep(INTERVAL_S / 4)

        in_time = len(torso.answered_at) - before - news

        assert 2 <= in_time <= 1 + (monotonic() - began) / INTERVAL_S


async def test_who_is_not_answered_is_cut_off_once_and_beats_on(broker: LocalBroker) -> None:
    async with beating(broker) as (_, torso, overseer):
        await torso.until(lambda: len(torso.answered_at) >= 2)
        overseer.answering = False
        await torso.until(lambda: bool(torso.cut_off_at))
        heard = len(overseer.heartbeats)
        await overseer.until(lambda: len(overseer.heartbeats) >= heard + 2)
        cut_off_after_s = torso.cut_off_at[0] - torso.answered_at[-1]
        overseer.answering = True
        await torso.until(lambda: torso.answered_at[-1] > torso.cut_off_at[0])

    assert LASTS_S - LATE_S < cut_off_after_s < LASTS_S + LATE_S
    assert len(torso.cut_off_at) == 1
