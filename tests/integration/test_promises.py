"""Promises that only a real orchestrator on a real broker can keep."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from services.orchestrator.facts import BOT_CODEC
from shared.contracts.orchestrator.commands import LaunchBot, StartBot, StopBot
from shared.contracts.orchestrator.facts import BotSpec, TaskExpired, TaskSubmitted
from shared.contracts.words import BotId
from shared.kernel.codec import encode
from shared.kernel.messages import Committed, Envelope
from shared.runtime.clock import now
from shared.runtime.commands import OUTCOME
from shared.runtime.ids import new_id
from tests.integration.cast import Stage, stage, submit
from tests.support.nats_server import LocalBroker

DEADLINE = timedelta(seconds=1.5)
PATIENT_S = 5 * DEADLINE.total_seconds()
ALPHA = BotId("alpha")
pytestmark = pytest.mark.integration


@pytest.fixture
async def scene(broker: LocalBroker) -> AsyncIterator[Stage]:
    async with stage(broker) as opened:
        yield opened


async def test_an_idle_hive_still_looks_at_the_clock(scene: Stage) -> None:
    """Nothing is sent, nothing is asked: the deadline passes all the same."""
    await scene.actor("one")
    task = msgspec.structs.replace(submit(1), deadline=now() + DEADLINE)
    assert isinstance(await scene.send(task, actor="k"), Committed)

    async with asyncio.timeout(PATIENT_S):
        async for batch in scene.store.follow(("task",), 1):
            assert ["t1"] == [stored.aggregate_id for stored in batch]
            break

    assert [TaskSubmitted, TaskExpired] == [type(fact) for fact in await scene.facts("t1")]


async def test_a_stop_that_is_delivered_again_does_not_stop_what_was_started_since(scene: Stage) -> None:
    await scene.actor("one")
    stop = new_id()
    await scene.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="external", host="external")), actor="k")
    first = await scene.send(StopBot(bot_id=ALPHA), actor="k", command_id=stop)
    await scene.send(StartBot(bot_id=ALPHA), actor="k")
    before = await scene.store.version("bot", ALPHA)

    # Another message id, as after the dedup window; the command in it is the same.
    again = await _send_again(scene, StopBot(bot_id=ALPHA), stop)

    assert isinstance(first, Committed)
    assert first == again
    stops = [
        fact
        for stored in await scene.store.read("bot", ALPHA)
        for fact in BOT_CODEC.decode_all(stored.commit.facts)
        if type(fact).__name__ == "BotStopRequested"
    ]
    assert 1 == len(stops)
    assert before <= await scene.store.version("bot", ALPHA)


async def _send_again(scene: Stage, command: StopBot, command_id: str) -> object:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def hear(message: object) -> None:
        answered.set_result(message.data)  # type: ignore[attr-defined]

    inbox = scene.gateway.inbox()
    await scene.gateway.subscribe(inbox, hear)
    envelope = Envelope(id=command_id, chain=command_id, actor="k", command=msgspec.Raw(encode(command)))
    await scene.gateway.publish(
        f"cmd.orchestrator.gateway.{ALPHA}",
        encode(envelope),
        headers={"Hive-Reply": inbox, "Nats-Msg-Id": new_id()},
    )
    async with asyncio.timeout(PATIENT_S):
        return OUTCOME.decode(await answered)
