"""Schedulers as processes, on a real broker: due times fire once, whoever dies and whoever takes over."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.commands import CancelTask
from shared.contracts.scheduler.schedules import (
    CatchUp,
    Overlap,
    PauseSchedule,
    Receipt,
    RemoveSchedule,
    ResumeSchedule,
    RunSchedule,
    ScheduleName,
)
from shared.contracts.words import TaskId
from shared.kernel.errors import NotFound
from shared.kernel.messages import AlreadySo, Refused
from tests.services.scheduler.clockwork import Clockwork, add, clockwork, plan

pytestmark = pytest.mark.nats
SECOND = timedelta(seconds=1)


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Clockwork]:
    async with clockwork(tmp_path) as one:
        one.start("orchestrator")
        one.start()
        await one.answers()
        yield one


def each_second_once(receipts: list[Receipt]) -> None:
    """Every due time has one receipt, in their order, and each that fired has a task of its own."""
    assert receipts
    assert {SECOND} == {after.due_at - before.due_at for before, after in pairwise(receipts)}
    tasks = [each.task_id for each in receipts if each.task_id is not None]
    assert len(set(tasks)) == len(tasks)
    assert all((each.task_id is None) == (each.outcome == "skipped") for each in receipts)


async def test_a_schedule_ticks_and_its_tasks_are_submitted(works: Clockwork) -> None:
    version = await works.committed(add("every", plan("@every 1s")))
    doc = await works.schedule("every", version)
    assert [SECOND] * 4 == [after - before for before, after in pairwise(doc.next)]
    receipts = await works.has_ticked("every", 3)
    each_second_once(receipts)
    await works.submitted(*(each.task_id for each in receipts))
    assert receipts[0].task_id is not None
    task = await works.task(receipts[0].task_id)
    assert (task.submitter, task.content) == ("schedule:every", "tick")


async def test_killed_in_the_middle_of_ticks_it_goes_on_and_none_fires_twice(works: Clockwork) -> None:
    await works.committed(add("all", plan("@every 1s", catch_up=CatchUp.ALL)))
    await works.committed(add("one", plan("@every 1s", catch_up=CatchUp.ONE)))
    for _ in range(2):
        ticked = len(await works.has_ticked("all", 2))
        works._processes[-1].kill()
        works._processes[-1].wait()
        works.start()
        await works.has_ticked("all", ticked + 4)
    for name in ("all", "one"):
        receipts = await works.receipts(name)
        each_second_once(receipts)
        await works.submitted(*(each.task_id for each in receipts))
    assert "skipped" not in {each.outcome for each in await works.receipts("all")}


async def test_the_standby_goes_on_when_who_ticked_is_gone(works: Clockwork) -> None:
    first = works._processes[-1]
    works.start(instance="two")
    await works.committed(add("all", plan("@every 1s", catch_up=CatchUp.ALL)))
    ticked = len(await works.has_ticked("all", 2))
    first.kill()
    first.wait()
    receipts = await works.has_ticked("all", ticked + 5)
    each_second_once(receipts)
    assert "skipped" not in {each.outcome for each in receipts}
    await works.submitted(*(each.task_id for each in receipts))


async def test_two_colours_share_the_schedules_and_none_fires_twice(works: Clockwork) -> None:
    names = ["a", "b", "c", "d"]
    assert {0, 1} == {partition_of(name) % 2 for name in names}
    works.start(instance="green", colour="green")
    for name in names:
        await works.committed(add(name, plan("@every 1s", catch_up=CatchUp.ALL)))
    await works.has_ticked("a", 2)
    await works.split_partitions()
    for name in names:
        ticked = len(await works.receipts(name))
        receipts = await works.has_ticked(name, ticked + 3)
        each_second_once(receipts)
        assert "skipped" not in {each.outcome for each in receipts}


async def test_overlap_waits_for_the_end_of_the_task(works: Clockwork) -> None:
    await works.committed(add("queue", plan("@every 1s", overlap=Overlap.QUEUE)))
    first, second, third = (await works.has_ticked("queue", 3))[:3]
    assert ("fired", "queued", "skipped") == (first.outcome, second.outcome, third.outcome)
    assert "another tick waits" in third.reason
    assert first.task_id is not None
    doc = await works.schedule("queue")
    assert ((first.task_id,), second.due_at) == (doc.running, doc.waiting)
    await works.committed(PauseSchedule(name=ScheduleName("queue")))
    await works.committed(ResumeSchedule(name=ScheduleName("queue")))
    (given_up,) = [each for each in await works.receipts("queue") if each.due_at == second.due_at]
    assert ("skipped", "the schedule was paused") == (given_up.outcome, given_up.reason)

    async def waits() -> bool:
        return (await works.schedule("queue")).waiting is not None

    await works.until(waits)
    waiting = (await works.schedule("queue")).waiting
    await works.submitted(first.task_id)
    await works.committed(CancelTask(task_id=first.task_id))

    async def fires() -> bool:
        found = [each for each in await works.receipts("queue") if each.due_at == waiting]
        return [each.outcome for each in found] in (["fired"], ["late"])

    await works.until(fires)


async def test_a_schedule_is_run_at_once_paused_and_removed(works: Clockwork) -> None:
    name = ScheduleName("daily")
    await works.committed(add(name, plan("@daily")))
    await works.committed(PauseSchedule(name=name))
    run = RunSchedule(name=name, task_id=TaskId("run-1"))
    version = await works.committed(run)
    assert isinstance(await works.send(run, actor="key-1", wait_s=10), AlreadySo)
    await works.submitted(TaskId("run-1"))
    doc = await works.schedule(name, version)
    assert (doc.state, doc.next, doc.fired, doc.running) == ("paused", (), 1, (TaskId("run-1"),))
    await works.committed(RemoveSchedule(name=name))
    with pytest.raises(NotFound, match="was removed"):
        await works.schedule(name)
    assert ["run-1"] == [each.task_id for each in await works.receipts(name)]
    refused = await works.send(add("bad", plan("0 25 * * *")), actor="key-1", wait_s=10)
    assert isinstance(refused, Refused)
    assert "position 3" in refused.detail


async def test_ticks_go_on_while_nobody_takes_tasks_and_none_of_their_tasks_is_lost(tmp_path: Path) -> None:
    async with clockwork(tmp_path) as works:
        works.start()
        await works.answers()
        await works.committed(add("all", plan("@every 1s", catch_up=CatchUp.ALL)))
        await works.has_ticked("all", 3)
        works._processes[0].kill()
        works._processes[0].wait()
        works.start("orchestrator")
        works.start()
        await works.has_ticked("all", 5)
        await works.committed(PauseSchedule(name=ScheduleName("all")))
        receipts = await works.receipts("all")
        each_second_once([each for each in receipts if each.outcome != "skipped"])
        await works.submitted(*(each.task_id for each in receipts))
        tasks = [each.task_id for each in receipts if each.task_id is not None]
        assert tasks == list((await works.schedule("all")).running)
