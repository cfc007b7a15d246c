"""Take-over and shift: who decides may change at any moment; what was asked is decided once all the same."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.orchestrator.facts import TaskCancelled, TaskSubmitted
from shared.contracts.words import SEAT_TTL, TaskId
from shared.kernel.errors import Unavailable
from shared.kernel.messages import AlreadySo, Committed, Outcome, Refused
from tests.integration.cast import Stage, half, stage, submit
from tests.support.nats_server import LocalBroker

TAKE_OVER_S = 3.0
PATIENT_S = 5 * TAKE_OVER_S
pytestmark = pytest.mark.integration

assert SEAT_TTL.total_seconds() < TAKE_OVER_S


@pytest.fixture
async def scene(broker: LocalBroker) -> AsyncIterator[Stage]:
    async with stage(broker) as opened:
        yield opened


async def decided(scene: Stage, number: int) -> Outcome:
    """Ask until there is an answer."""
    command = submit(number)
    async with asyncio.timeout(PATIENT_S):
        while True:
            with suppress(Unavailable):
                outcome = await scene.send(command, actor="k", wait_s=1.0)
                if outcome is not None:
                    return outcome


async def once(scene: Stage, numbers: range) -> None:
    for number in numbers:
        facts = await scene.facts(f"t{number}")
        assert [TaskSubmitted] == [type(fact) for fact in facts], number


async def test_a_standby_takes_over_from_one_that_was_killed_under_load(scene: Stage) -> None:
    first = await scene.actor("one")
    assert isinstance(await decided(scene, 0), Committed)
    await scene.actor("two")

    async with asyncio.TaskGroup() as group:
        for number in range(1, 400):
            group.create_task(decided(scene, number))
            if number == 200:
                first.end()
            await asyncio.sleep(0)

    await once(scene, range(400))
    assert await scene.waiting() == 0


async def test_a_standby_is_warm_but_decides_nothing(scene: Stage) -> None:
    first = await scene.actor("one")
    await decided(scene, 0)
    second = await scene.actor("two")

    for number in range(1, 20):
        await decided(scene, number)

    assert await first.metric("hive_decisions_total{") == 20
    assert await second.metric("hive_decisions_total{") == 0


async def test_two_colours_decide_each_its_own_half(scene: Stage) -> None:
    await scene.own("blue", half(0))
    await scene.own("green", half(1))
    blue, green = await scene.actor("blue-1", "blue"), await scene.actor("green-1", "green")

    for number in range(60):
        assert isinstance(await decided(scene, number), Committed)

    mine = sum(partition_of(f"t{number}") % 2 == 0 for number in range(60))
    assert mine == await blue.metric("hive_decisions_total{")
    assert 60 - mine == await green.metric("hive_decisions_total{")


async def test_a_shift_under_load_strands_nothing_and_doubles_nothing(scene: Stage) -> None:
    await scene.actor("blue-1", "blue")
    await scene.own("blue", half(0))
    await scene.own("green", half(1))
    await scene.actor("green-1", "green")

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(decided(scene, number))
            if number == 150:
                # Shrink, grow, reset: without the reset, what green had passed would lie there for ever.
                await scene.own("blue", range(0, 128, 4))
                await scene.own("green", [each for each in range(128) if each % 4])
                await scene.reset("green")
            await asyncio.sleep(0)

    await once(scene, range(300))
    async with asyncio.timeout(PATIENT_S):
        while await scene.waiting():
            await asyncio.sleep(0.05)


async def test_commands_that_a_grown_filter_had_passed_are_delivered_after_a_reset(scene: Stage) -> None:
    await scene.own("blue", half(0))
    await scene.own("green", half(1))
    stranded = [number for number in range(40) if partition_of(f"t{number}") % 2 == 0]
    for number in range(40):
        await scene.send(submit(number), actor="k", wait_s=0)
    await scene.actor("green-1", "green")
    async with asyncio.timeout(PATIENT_S):
        while await scene.waiting() != len(stranded):
            await asyncio.sleep(0.05)

    await scene.own("blue", [])
    await scene.own("green", range(128))
    await scene.reset("green")

    async with asyncio.timeout(PATIENT_S):
        while await scene.waiting():
            await asyncio.sleep(0.05)
    await once(scene, range(40))


async def test_who_slept_while_the_other_colour_decided_does_not_answer_from_memory(scene: Stage) -> None:
    await scene.own("blue", range(128))
    blue = await scene.actor("blue-1", "blue")
    assert isinstance(await decided(scene, 1), Committed)
    assert isinstance(await scene.send(submit(1), actor="k"), AlreadySo)

    blue.signal(signal.SIGSTOP)
    await scene.own("blue", [])
    await scene.own("green", range(128))
    await scene.actor("green-1", "green")
    cancelled = await scene.send(CancelTask(task_id=TaskId("t1")), actor="k", wait_s=PATIENT_S)
    assert isinstance(cancelled, Committed)
    await scene.own("green", [])
    await scene.own("blue", range(128))
    blue.signal(signal.SIGCONT)

    async with asyncio.timeout(PATIENT_S):
        while (outcome := await scene.send(submit(1, "other body"), actor="k", wait_s=1.0)) is None:
            pass
    assert isinstance(outcome, Refused)
    again = await scene.send(CancelTask(task_id=TaskId("t1")), actor="k", wait_s=PATIENT_S)
    assert isinstance(again, AlreadySo)
    assert again.sequence == cancelled.sequence
    assert [TaskSubmitted, TaskCancelled] == [type(fact) for fact in await scene.facts("t1")]


async def test_what_a_dead_holder_held_is_free_when_its_seat_is(scene: Stage) -> None:
    """The dead one took all it may take unacked; the standby gets them when their ack wait ends."""
    first = await scene.actor("one")
    await decided(scene, 0)
    first.signal(signal.SIGSTOP)
    for number in range(1, 60):
        await scene.send(submit(number), actor="k", wait_s=0)
    await scene.actor("two")
    first.end()

    async with asyncio.timeout(PATIENT_S):
        while await scene.waiting():
            await asyncio.sleep(0.05)
    await once(scene, range(60))
