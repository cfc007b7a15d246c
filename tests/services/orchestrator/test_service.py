"""The orchestrator at work: what must follow, follows; nothing twice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.orchestrator.deadlines import DEADLINES_KEPT
from services.orchestrator.recent import REMEMBERED_MAX
from shared.contracts.orchestrator.commands import CancelTask, LaunchBot, ReportBotExit, RetireBot, StopBot
from shared.contracts.orchestrator.facts import BotSpec, RetryPolicy
from shared.contracts.orchestrator.protocol import CancelRun, HostAnswer, RetireOrder, StartOrder
from shared.contracts.orchestrator.queries import GetBot
from shared.contracts.words import TaskId
from shared.kernel.messages import AlreadySo, Committed, Refused
from shared.runtime import clock
from shared.runtime.memory import MemoryStore
from tests.services.orchestrator.builders import ALPHA, BETA, done, report, submit, undone
from tests.services.orchestrator.workshop import Workshop, workshop

SOON = RetryPolicy(backoff_first_s=0.05, backoff_max_s=0.1)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as shop:
        yield shop


async def test_a_task_runs_from_its_submission_to_its_result(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    assert len(await shop.store.read("task", "t1")) == 1  # submitted and assigned in one commit
    assert isinstance(await shop.send(report(done(), assignment.token, task_id="t1")), Committed)
    doc = await shop.task("t1")
    assert (doc.state, doc.bot) == ("completed", ALPHA)
    assert shop.scene.board.free(ALPHA) == 3


async def test_a_submission_repeated_keeps_no_slot(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    shop.tasks.forget()
    assert isinstance(await shop.send(submit("t1")), AlreadySo)
    assert isinstance(await shop.send(submit("t1", body_hash="other")), Refused)
    assert shop.scene.board.free(ALPHA) == 2


async def test_many_at_once_never_overfill_a_bot(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.up("beta")
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(shop.send(submit(f"t{number:02}")))
    assert (shop.scene.board.free(ALPHA), shop.scene.board.free(BETA)) == (0, 0)
    assert len(shop.scene.board.lines) == 14


async def test_who_waits_gets_the_next_free_slot_in_order(shop: Workshop) -> None:
    await shop.up("alpha", BotSpec(engine="echo", slots=1))
    for number in range(3):
        await shop.send(submit(f"t{number}"))
    for number in range(3):
        assignment = await shop.assigned("alpha", f"t{number}")
        assert [each.task_id for each in shop.street.assignments[ALPHA]] == [
            f"t{n}" for n in range(number + 1)
        ]
        await shop.send(report(done(), assignment.token, task_id=f"t{number}"))


async def test_a_task_without_a_bot_waits_until_one_appears(shop: Workshop) -> None:
    await shop.send(submit("t1"))
    assert await shop.is_in("t1", "queued")
    await shop.up("alpha")
    await shop.assigned("alpha", "t1")


async def test_a_failed_attempt_is_tried_again_on_another_bot(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1", retry=SOON))
    first = await shop.assigned("alpha", "t1")
    await shop.up("beta")
    await shop.send(report(undone(), first.token, task_id="t1"))
    second = await shop.assigned("beta", "t1")
    assert second.attempt == 2


async def test_a_dead_bots_task_moves_and_the_bot_is_restarted(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1", retry=SOON))
    await shop.assigned("alpha", "t1")
    await shop.up("beta")
    del shop.beating[ALPHA]
    del shop.street.running[ALPHA]
    await shop.send(ReportBotExit(bot_id=ALPHA, generation=1, reason="signal 9"))
    await shop.assigned("beta", "t1")
    await shop.until(lambda: shop.street.running.get(ALPHA) == 2)


async def test_a_silent_bots_task_moves(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1", retry=SOON))
    assignment = await shop.assigned("alpha", "t1")
    await shop.up("beta")
    shop.beat("alpha", assignment.token)
    del shop.beating[ALPHA]
    await shop.assigned("beta", "t1")
    assert (await shop.answers.get_bot(GetBot(bot_id=ALPHA))).state == "silent"
    shop.beating[ALPHA] = set()

    async def idle() -> bool:
        return (await shop.answers.get_bot(GetBot(bot_id=ALPHA))).state == "idle"

    await shop.until(idle)


async def test_an_assignment_not_taken_goes_elsewhere_and_was_no_attempt(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    await shop.assigned("alpha", "t1")
    await shop.up("beta")
    moved = await shop.assigned("beta", "t1")
    assert moved.attempt == 1


async def test_a_task_whose_report_waits_in_our_own_queue_is_not_taken_away(shop: Workshop) -> None:
    await shop.up("alpha")
    shop.street.commands_waiting.add(TaskId("t1"))
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    await shop.until(lambda: shop.scene.liveness.leases[assignment.token].first_named is not None)
    assert isinstance(await shop.send(report(done(), assignment.token, task_id="t1")), Committed)


async def test_a_task_that_goes_on_being_named_is_running(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    shop.beating[ALPHA] = {assignment.token}

    async def running() -> bool:
        return await shop.is_in("t1", "running")

    await shop.until(running)


async def test_a_cancelled_task_is_over_at_once_and_its_bot_is_told(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    await shop.send(CancelTask(task_id=TaskId("t1")))
    assert await shop.is_in("t1", "cancelled")
    word = CancelRun(task_id=TaskId("t1"), token=assignment.token, reason="cancelled")
    await shop.until(lambda: (ALPHA, word) in shop.street.told)
    answer = shop.beat("alpha", assignment.token)
    assert answer is not None
    assert answer.held == ()


async def test_an_assignment_that_could_not_be_sent_is_sent_later(shop: Workshop) -> None:
    await shop.up("alpha")
    shop.street.away = True
    await shop.send(submit("t1"))
    await shop.until(lambda: bool(shop.scene.liveness.leases))
    shop.street.away = False
    await shop.assigned("alpha", "t1")


async def test_a_bot_that_its_host_cannot_start_says_why(shop: Workshop) -> None:
    shop.street.refusal = HostAnswer(ok=False, code="engine_unknown", detail="`engine`: there is no foo")
    await shop.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="foo")))
    doc = await shop.answers.get_bot(GetBot(bot_id=ALPHA, wait_up_s=5))
    assert (doc.state, doc.reason) == ("broken", "`engine`: there is no foo")


async def test_a_stopped_bot_is_drained_then_gone_and_its_queue_stays(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(StopBot(bot_id=ALPHA))
    answer = shop.beat("alpha")
    assert answer is not None
    assert answer.drain
    await shop.until(lambda: ALPHA not in shop.street.running)

    async def stopped() -> bool:
        return (await shop.answers.get_bot(GetBot(bot_id=ALPHA))).state == "stopped"

    await shop.until(stopped)
    assert ALPHA in shop.street.queues


async def test_a_retired_bot_leaves_nothing(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(RetireBot(bot_id=ALPHA))

    async def cleared() -> bool:
        facts = (await shop.store.read("bot", "alpha"))[-1].commit.facts
        return b"BotCleared" in bytes(facts[0])

    await shop.until(cleared)
    assert RetireOrder(bot_id=ALPHA, generation=1) in shop.street.orders
    assert ALPHA not in shop.street.queues


async def test_a_standby_decides_nothing_and_takes_over_what_is_outstanding(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as first, workshop(tmp_path, store, "two") as second:
        second.owned = frozenset()
        await first.up("alpha")
        first.street.away = True
        await first.send(submit("t1"))
        await second.until(lambda: bool(second.scene.liveness.leases))
        assert second.beat("alpha") is None
        assert second.street.orders == []
        first.owned, second.owned = frozenset(), first.owned
        second.street.running = dict(first.street.running)
        second.beating = {ALPHA: set()}
        await second.assigned("alpha", "t1")
        assert not any(isinstance(order, StartOrder) for order in second.street.orders)


async def test_a_process_of_an_older_generation_is_told_to_stop(shop: Workshop) -> None:
    await shop.up("alpha")
    answer = shop.beat("alpha", generation=7)
    assert answer is not None
    assert answer.stop
    unknown = shop.beat("nobody")
    assert unknown is not None
    assert unknown.stop


async def test_a_step_that_fails_unexpectedly_ends_nothing_else_and_stays_outstanding(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.up("beta")
    shop.street.broken.add(ALPHA)
    await shop.send(submit("t1", bot=ALPHA))
    await shop.send(submit("t2", bot=BETA))
    await shop.assigned("beta", "t2")

    shop.street.broken.clear()
    await shop.assigned("alpha", "t1")


async def test_a_step_that_fails_again_and_again_is_written_to_the_log_once(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shop.street.away = True
    await shop.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="echo")))
    await shop.until(lambda: shop.street.asked_in_vain >= 3)

    assert caplog.text.count("start alpha 1 stays outstanding: nobody answers for local") == 1


async def test_what_has_ended_is_not_kept_in_memory(shop: Workshop) -> None:
    await shop.up("alpha")
    tomorrow = clock.now() + timedelta(days=1)
    for number in range(2_500):
        task_id = f"t{number}"
        await shop.send(submit(task_id, deadline=tomorrow))
        token = next(iter(shop.scene.board.held[ALPHA].values()))
        assert isinstance(await shop.send(report(done(), token, task_id=task_id)), Committed)
        if number % 50 == 0:
            shop.beat("alpha")
            await asyncio.sleep(0)
    await shop.until(lambda: not shop.scene.board.tasks)

    board = shop.scene.board
    assert (board.free(ALPHA), len(board.lines), len(board._reserved)) == (3, 0, 0)
    assert not shop.scene.liveness.leases
    assert len(board._deadlines) <= DEADLINES_KEPT + 100
    assert len(shop.answers._recent._pasts) <= REMEMBERED_MAX
    await shop.until(lambda: not shop.orchestrator._under_way)
