"""Every question to the orchestrator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.orchestrator.recent import Recent
from shared.contracts.orchestrator.commands import CancelTask, LaunchBot, RetireBot
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.queries import (
    AwaitTask,
    Counts,
    GetBot,
    GetBotHistory,
    GetCounts,
    GetFile,
    GetTask,
    GetTimeline,
    GetWhy,
    ListBots,
    ListTasks,
    PutFile,
    Why,
)
from shared.contracts.words import INPUT_BYTES_MAX, BotId, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Behind, NotFound, Rejected
from shared.kernel.messages import Committed
from tests.services.orchestrator.builders import (
    ALPHA,
    assigned,
    commit,
    done,
    report,
    started,
    submit,
    submitted,
)
from tests.services.orchestrator.workshop import Workshop, workshop

T1 = TaskId("t1")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as shop:
        yield shop


async def committed(shop: Workshop, command: object) -> int:
    outcome = await shop.send(command)  # type: ignore[arg-type]
    assert isinstance(outcome, Committed)
    return outcome.sequence


async def test_a_task_can_be_read_as_soon_as_it_is_stored(shop: Workshop) -> None:
    sequence = await committed(shop, submit("t1"))
    doc = await shop.answers.get_task(GetTask(task_id=T1, at_least=sequence))
    assert (doc.id, doc.version) == ("t1", sequence)


async def test_a_task_that_memory_forgot_is_read_from_the_log(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.send(submit("t1"))
        shop.answers._recent = Recent()
        assert (await shop.task("t1")).state == "queued"
        assert len((await shop.answers.get_timeline(GetTimeline(task_id=T1))).entries) == 1


async def test_who_asks_about_nothing_is_told_so(shop: Workshop) -> None:
    for question in (
        shop.answers.get_task(GetTask(task_id=T1)),
        shop.answers.await_task(AwaitTask(task_id=T1, wait_s=1)),
        shop.answers.get_timeline(GetTimeline(task_id=T1)),
        shop.answers.get_why(GetWhy(task_id=T1)),
    ):
        with pytest.raises(NotFound, match="task_not_found"):
            await question


async def test_who_waits_for_a_task_is_woken_by_its_end(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(shop.answers.await_task(AwaitTask(task_id=T1, wait_s=9))) for _ in range(3)
        ]
        await asyncio.sleep(0)
        await shop.send(report(done(), assignment.token, task_id="t1"))
    assert [task.result().state for task in waiting] == ["completed"] * 3
    assert shop.answers._ends == {}


async def test_who_waits_for_a_task_gets_it_as_it_is_when_the_time_is_up(shop: Workshop) -> None:
    await shop.send(submit("t1"))
    assert (await shop.answers.await_task(AwaitTask(task_id=T1, wait_s=0.01))).state == "queued"
    assert shop.answers._ends == {}


async def test_a_task_that_has_ended_is_not_waited_for(shop: Workshop) -> None:
    await shop.send(submit("t1"))
    await shop.send(CancelTask(task_id=T1))
    async with asyncio.timeout(1):
        assert (await shop.answers.await_task(AwaitTask(task_id=T1, wait_s=30))).state == "cancelled"


async def test_tasks_are_listed_as_of_the_sequence_that_was_named(shop: Workshop) -> None:
    await shop.send(submit("t1"))
    sequence = await committed(shop, submit("t2"))
    page = await shop.answers.list_tasks(ListTasks(at_least=sequence))
    assert [doc.id for doc in page.items] == ["t2", "t1"]
    with pytest.raises(Behind):
        await shop.answers.list_tasks(ListTasks(at_least=sequence + 1))


async def test_why_names_the_decision(shop: Workshop) -> None:
    await shop.send(submit("t1"))
    why = await shop.answers.get_why(GetWhy(task_id=T1))
    assert (why.waits_for, why.decision) == ("a_bot", None)
    await shop.up("alpha")
    await shop.assigned("alpha", "t1")
    why = await shop.answers.get_why(GetWhy(task_id=T1))
    assert why.waits_for == "the_bot"
    assert why.decision is not None
    assert [each.bot_id for each in why.decision.candidates] == ["alpha"]
    assert msgspec.json.decode(encode(why), type=Why) == why
    await shop.send(CancelTask(task_id=T1))
    assert (await shop.answers.get_why(GetWhy(task_id=T1))).waits_for == "nothing"


async def test_a_bot_shows_what_it_does_and_what_it_uses(shop: Workshop) -> None:
    await shop.up("alpha")
    bot = await shop.answers.get_bot(GetBot(bot_id=ALPHA))
    assert (bot.state, bot.free_slots, bot.running) == ("idle", 3, ())
    assert (bot.pid, bot.host, bot.rss_bytes, bot.uptime_s) == (9, "local", 1000, 3.0)
    assert bot.last_heard_s is not None
    await shop.send(submit("t1"))
    bot = await shop.answers.get_bot(GetBot(bot_id=ALPHA))
    assert (bot.state, bot.free_slots, bot.running) == ("busy", 2, ("t1",))


async def test_a_bot_that_is_not_there_and_the_names_that_are_near(shop: Workshop) -> None:
    await shop.up("alpha")
    with pytest.raises(NotFound, match="there is alpha"):
        await shop.answers.get_bot(GetBot(bot_id=BotId("alhpa")))
    with pytest.raises(NotFound):
        await shop.answers.get_history(GetBotHistory(bot_id=BotId("zzz")))


async def test_who_waits_for_a_bot_is_woken_when_it_is_up_or_gone(shop: Workshop) -> None:
    await shop.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="echo")))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(shop.answers.get_bot(GetBot(bot_id=ALPHA, wait_up_s=9)))
        await shop.until(lambda: ALPHA in shop.street.running)
        assert not waiting.done()
        shop.beat("alpha")
    assert waiting.result().state == "idle"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(shop.answers.get_bot(GetBot(bot_id=ALPHA, wait_gone_s=9)))
        await asyncio.sleep(0)
        await shop.send(RetireBot(bot_id=ALPHA))
    assert waiting.result().state == "retired"


async def test_who_waits_for_a_bot_in_vain_gets_it_as_it_is(shop: Workshop) -> None:
    shop.street.away = True
    await shop.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="echo")))
    assert (await shop.answers.get_bot(GetBot(bot_id=ALPHA, wait_up_s=0.01))).state == "starting"


async def test_a_bot_for_a_host_that_nobody_runs_says_what_it_waits_for(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(LaunchBot(bot_id=BotId("beta"), spec=BotSpec(engine="echo", host="mars")))

    beta = await shop.answers.get_bot(GetBot(bot_id=BotId("beta")))

    assert "starting" == beta.state
    assert "no bot host mars is heard (heard: local)" in (beta.reason or "")


async def test_bots_are_listed_by_name_in_pages_without_the_retired(shop: Workshop) -> None:
    for name in ("c", "a", "b"):
        await shop.up(name, BotSpec(engine="echo", pool="gpu" if name == "b" else "default"))
    page = await shop.answers.list_bots(ListBots(limit=2))
    assert ([doc.name for doc in page.items], page.next_cursor) == (["a", "b"], "b")
    page = await shop.answers.list_bots(ListBots(limit=2, cursor="b"))
    assert ([doc.name for doc in page.items], page.next_cursor) == (["c"], None)
    assert [doc.name for doc in (await shop.answers.list_bots(ListBots(pool="gpu"))).items] == ["b"]
    await shop.send(RetireBot(bot_id=BotId("a")))
    assert [doc.name for doc in (await shop.answers.list_bots(ListBots())).items] == ["b", "c"]
    everybody = await shop.answers.list_bots(ListBots(retired=True))
    assert [doc.state for doc in everybody.items] == ["retired", "idle", "idle"]
    with pytest.raises(Rejected):
        await shop.answers.list_bots(ListBots(limit=0))


async def test_the_history_of_a_bot_outlives_it(shop: Workshop) -> None:
    await shop.up("alpha")
    await shop.send(submit("t1"))
    assignment = await shop.assigned("alpha", "t1")
    sequence = await committed(shop, report(done("hello"), assignment.token, task_id="t1"))
    await shop.send(RetireBot(bot_id=ALPHA))
    await shop.follower.reached(sequence)
    (entry,) = (await shop.answers.get_history(GetBotHistory(bot_id=ALPHA))).items
    assert (entry.task_id, entry.attempt.end, entry.output_text) == ("t1", "completed", "hello")


async def test_tasks_and_bots_are_counted(shop: Workshop) -> None:
    await shop.up("alpha", BotSpec(engine="echo", slots=1))
    await shop.send(submit("t1"))
    await shop.send(submit("t2"))
    assert await shop.answers.get_counts(GetCounts()) == Counts(
        tasks={"assigned": 1, "queued": 1}, bots={"busy": 1}
    )


async def test_a_file_is_kept_by_what_it_is_and_read_in_pieces(shop: Workshop) -> None:
    data = bytes(range(256)) * 3000
    ref = await shop.answers.put_file(PutFile(data=data))
    assert ref == await shop.answers.put_file(PutFile(data=data))
    pieces = b""
    while len(pieces) < ref.size_bytes:
        pieces += await shop.answers.get_file(GetFile(sha256=ref.sha256, offset=len(pieces)))
    assert pieces == data
    with pytest.raises(NotFound, match="file_not_found"):
        await shop.answers.get_file(GetFile(sha256="00"))
    with pytest.raises(Rejected, match="file_too_large"):
        await shop.answers.put_file(PutFile(data=bytes(INPUT_BYTES_MAX + 1)))


def test_recent_pasts_are_in_order_however_they_came_and_few() -> None:
    recent = Recent(remembered_max=2)
    for each in (commit(3, started(2)), commit(1, submitted()), commit(3, started(2)), commit(2, assigned())):
        recent.add(each)
    assert [each.sequence for each in recent.past(TaskId("t1"))] == [1, 2, 3]
    recent.add(commit(5, submitted("t2")))
    recent.add(commit(6, submitted("t3")))
    assert recent.past(TaskId("t1")) == ()
    recent.add(commit(7, assigned()))
    assert recent.past(TaskId("t1")) == ()  # its beginning is forgotten
