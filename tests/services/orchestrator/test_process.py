"""The orchestrator as its own process, on a real broker, with bots and hosts in bare nats-py."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.orchestrator.queries import AwaitTask, GetTask
from shared.kernel.messages import Committed, Refused
from tests.services.orchestrator.builders import submit
from tests.services.orchestrator.hive import Hive, hive

pytestmark = pytest.mark.nats


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Hive]:
    async with hive(tmp_path) as one:
        one.start_orchestrator()
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
