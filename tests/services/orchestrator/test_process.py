"""The orchestrator as its own process, on a real broker, with bots and hosts in bare nats-py."""

from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from nats.errors import Error as NatsError

from shared.contracts.naming import routing_subject
from shared.contracts.orchestrator.commands import LaunchBot, RetireBot
from shared.contracts.orchestrator.facts import BotSpec, RetryPolicy
from shared.contracts.orchestrator.protocol import FileAnswer
from shared.contracts.orchestrator.queries import (
    AwaitTask,
    GetCounts,
    GetFile,
    GetTask,
    GetWhy,
    ListTasks,
    PutFile,
)
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import (
    BOT_IS_SILENT_AFTER,
    BOT_STOPS_ITSELF_AFTER,
    BotId,
    Priority,
    SideEffects,
    TaskId,
    TaskType,
)
from shared.kernel.codec import encode
from shared.kernel.messages import Committed, Refused
from shared.runtime.clock import monotonic, now
from tests.services.orchestrator.builders import submit
from tests.services.orchestrator.hive import Hive, hive
from tests.support.broken import break_file

pytestmark = pytest.mark.nats


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Hive]:
    async with hive(tmp_path) as one:
        one.start_orchestrator()

        async def answers() -> bool:
            return (await one.ask(GetCounts())).tasks == {}

        await one.until(answers)
        yield one


async def test_a_task_goes_to_a_bot_and_its_result_comes_back(running: Hive) -> None:
    async with running.launched("alpha") as alpha:
        await running.committed(submit("task-1"))
        assignment = await alpha.take()
        assert isinstance(await alpha.finish(assignment, "hello"), Committed)

        doc = await running.ask(AwaitTask(task_id=assignment.task_id, wait_s=5))

    assert (doc.state, doc.bot) == ("completed", "alpha")
    assert doc.output is not None
    assert doc.output.text == "hello"


async def test_a_late_report_is_refused(running: Hive) -> None:
    async with running.launched("alpha") as alpha:
        await running.committed(submit("task-1"))
        first = await alpha.take()
        await running.host.exit_of(alpha.bot_id)

        async def waits_again() -> bool:
            return (await running.ask(GetTask(task_id=first.task_id))).state == "retrying"

        await running.until(waits_again)
        refused = await alpha.finish(first)

    assert isinstance(refused, Refused)
    assert refused.code == "stale_token"


async def test_a_standby_takes_over_after_a_kill_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async with hive(tmp_path) as one:
        first = one.start_orchestrator("one")
        async with one.launched("alpha") as alpha:
            one.start_orchestrator("two")
            await one.committed(submit("held"))
            held = await alpha.take()
            await one.committed(submit("done"))
            done = await alpha.take()
            await alpha.finish(done)
            first.kill()

            async def answers() -> bool:
                try:
                    return held.token in (await alpha.beat()).held
                except NatsError:
                    return False  # nobody holds the seat for a moment

            await one.until(answers)
            assert isinstance(await alpha.finish(held), Committed)
            await one.committed(submit("next"))
            assert (await alpha.take()).task_id == "next"
        states = {doc.id: (doc.state, len(doc.attempts)) for doc in (await one.ask(ListTasks())).items}
    assert states == {"held": ("completed", 1), "done": ("completed", 1), "next": ("assigned", 1)}


async def test_what_waited_while_there_was_no_orchestrator_is_done_by_the_next(tmp_path: Path) -> None:
    async with hive(tmp_path) as one:
        one.start_orchestrator()
        async with one.launched("alpha", BotSpec(engine="echo", slots=1)) as alpha:
            await one.committed(submit("t1"))
            first = await alpha.take()
            await one.committed(submit("t2"))
            one.end_orchestrators()
            assert await one.send(submit("t3"), actor="key-1", wait_s=0.1) is None  # stored, not decided
            one.start_orchestrator()
            alpha.keep_beating()
            assert isinstance(await alpha.finish(first), Committed)
            second = await alpha.take()
            assert isinstance(await alpha.finish(second), Committed)
            third = await alpha.take()
    assert [each.task_id for each in (first, second, third)] == ["t1", "t2", "t3"]


async def test_a_bot_that_is_cut_off_has_the_time_to_stop_before_another_gets_its_task(running: Hive) -> None:
    async with running.launched("alpha") as alpha:
        await running.committed(submit("t1"))
        taken = await alpha.take()
        cut_off_at = monotonic()
        async with running.launched("beta") as beta:
            beta.keep_beating()
            moved = await beta.take()
            passed = monotonic() - cut_off_at
            assert (moved.task_id, moved.attempt) == ("t1", 2)
            assert passed > BOT_STOPS_ITSELF_AFTER.total_seconds()
            assert passed < BOT_IS_SILENT_AFTER.total_seconds() + 3
            assert (await alpha.beat()).held == ()
            refused = await alpha.finish(taken)
            assert isinstance(refused, Refused)


async def test_a_task_expires_in_an_idle_hive(running: Hive) -> None:
    await running.committed(submit("t1", deadline=now() + timedelta(seconds=0.5)))
    doc = await running.ask(AwaitTask(task_id=TaskId("t1"), wait_s=10), timeout_s=12)
    assert doc.state == "expired"


async def test_work_that_may_not_run_twice_is_claimed_and_then_reviewed_when_its_bot_dies(
    running: Hive,
) -> None:
    async with running.launched("alpha") as alpha:
        await running.committed(submit("t1", retry=RetryPolicy(side_effects=SideEffects.ASK)))
        taken = await alpha.take()
        assert isinstance(await alpha.claim(taken), Committed)
        await running.host.exit_of(alpha.bot_id)

        async def blocked() -> bool:
            return (await running.ask(GetTask(task_id=taken.task_id))).state == "blocked"

        await running.until(blocked)
        assert isinstance(await alpha.claim(taken), Refused)


async def test_large_input_and_output_go_through_the_file_door(running: Hive) -> None:
    given, made = b"in" * 20_000, b"out" * 200_000
    ref = await running.ask(PutFile(data=given))
    async with running.launched("alpha") as alpha:
        await running.committed(submit("t1", input_file=ref))
        taken = await alpha.take()
        assert (await alpha.file("get", ref.sha256.encode(), taken)).data == given
        stored = await alpha.file("put", made, taken)
        name = msgspec.json.decode(stored.data, type=FileAnswer).sha256
        assert name == sha256(made).hexdigest()

        stranger = await alpha.file("get", name.encode(), taken)
        assert (stranger.headers or {})["Hive-Error"] == "notfound:file_not_found"
        await alpha.finish(taken)
        late = await alpha.file("put", made, taken)
        assert (late.headers or {})["Hive-Error"] == "rejected:stale_token"
    pieces = b""
    while len(pieces) < len(made):
        pieces += await running.ask(GetFile(sha256=name, offset=len(pieces)))
    assert pieces == made


async def test_a_bot_that_others_run_needs_no_process(running: Hive) -> None:
    running.host.starts = False
    async with running.launched("ext", BotSpec(engine="external", host="external")) as external:
        await running.committed(submit("t1", engine="external"))
        assert isinstance(await external.finish(await external.take()), Committed)
    assert running.host.orders.count("start ext 1") == 1


async def test_a_retired_bot_leaves_no_queue_and_its_name_can_be_launched_again(running: Hive) -> None:
    async with running.launched("alpha"):
        await running.committed(RetireBot(bot_id=BotId("alpha")))

    async def launched_again() -> bool:
        outcome = await running.send(
            LaunchBot(bot_id=BotId("alpha"), spec=BotSpec(engine="echo")), actor="key-1", wait_s=5
        )
        return isinstance(outcome, Committed)

    await running.until(launched_again)
    assert running.host.retired == ["alpha"]
    assert (await running.bot("alpha")).generation == 2


async def test_a_view_that_breaks_under_a_running_process_is_built_again(running: Hive) -> None:
    async with running.launched("alpha") as alpha:
        await running.committed(submit("task-1"))
        await alpha.finish(await alpha.take())
        before = await running.ask(ListTasks())
        (view,) = (running.broker.folder / "data" / "views" / "one").glob("tasks-v*.sqlite")
        break_file(view)
        await running.committed(submit("task-2"))

        async def is_listed() -> bool:
            return [doc.id for doc in (await running.ask(ListTasks())).items] == ["task-2", "task-1"]

        await running.until(is_listed)
        assert (await running.ask(ListTasks())).items[1:] == before.items
        assert running._processes[0].poll() is None


async def test_a_task_goes_to_whom_the_scheduler_knows_to_be_the_best(tmp_path: Path) -> None:
    known = Standing(
        samples=9,
        successes=9.0,
        failures=0.0,
        success=1.0,
        speed=0.5,
        cost_usd=0.0,
        score=0.8,
        confidence=0.9,
        trusted=True,
    )
    bots = {BotId("alpha"): msgspec.structs.replace(known, score=0.3), BotId("beta"): known}
    table = RoutingTable(type=TaskType.CODE, at=now(), sequence=1, policy="efficient", bots=bots)
    async with hive(tmp_path) as one:
        async with one.broker.client("svc-scheduler") as scheduler:
            await scheduler.request(routing_subject(TaskType.CODE), encode(table), timeout=5)
        one.start_orchestrator()
        async with one.launched("alpha") as alpha, one.launched("beta") as beta:
            alpha.keep_beating()
            beta.keep_beating()
            await one.committed(submit("task-1", priority=Priority.P0))
            assignment = await beta.take()
            why = await one.ask(GetWhy(task_id=assignment.task_id))

    assert why.decision is not None
    assert (why.decision.policy, why.decision.propensity) == ("efficient", 1.0)
    assert [(each.bot_id, each.score) for each in why.decision.candidates] == [("beta", 0.8), ("alpha", 0.3)]
