"""The scheduler as its own process, on a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.config import Config
from shared.contracts.scheduler.commands import ResetPerformance
from shared.contracts.scheduler.queries import GetRecommendations
from shared.contracts.words import BotId, TaskType
from tests.services.scheduler.history import CODE
from tests.services.scheduler.office import Office, office

pytestmark = pytest.mark.nats
ALPHA = BotId("alpha")


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path) as one:
        await one.launched("alpha", "beta")
        one.start()
        yield one


async def test_what_the_log_tells_of_a_bot_is_published_and_answered(hive: Office) -> None:
    for _ in range(3):
        sequence = await hive.done("alpha")
    table = await hive.table(lambda table: table.sequence == sequence)
    assert (table.type, table.policy, list(table.bots)) == (CODE, "efficient", ["alpha"])
    assert (table.bots[ALPHA].samples, table.bots[ALPHA].trusted) == (3, True)
    (known,) = await hive.performance("alpha", sequence)
    assert (known.samples, known.score) == (3, table.bots[ALPHA].score)
    told = await hive.ask(GetRecommendations(type=CODE, at_least=sequence))
    assert [each.bot for each in told.ranked] == ["alpha", "beta"]


async def test_a_reset_by_a_person_counts_at_its_place_in_the_log(hive: Office) -> None:
    for _ in range(3):
        await hive.done("alpha")
    await hive.performance("alpha")
    reset = await hive.committed(ResetPerformance(bot_id=ALPHA))
    assert await hive.performance("alpha", reset) == ()
    await hive.table(lambda table: table.bots == {})
    (known,) = await hive.performance("alpha", await hive.done("alpha"))
    assert known.samples == 1


async def test_what_is_known_outlives_the_process_and_each_fact_counts_once(hive: Office) -> None:
    for _ in range(5):
        await hive.done("alpha")
    await hive.table(lambda table: table.bots[ALPHA].samples == 5)
    hive.kill()
    await hive.done("alpha")
    hive.start()
    (known,) = await hive.performance("alpha")
    assert known.samples == 6
    hive.kill()
    hive.start("another")  # with no file: from the whole log
    (again,) = await hive.performance("alpha")
    assert again == known


async def test_a_standby_publishes_nothing_until_it_takes_over_and_then_all_again(hive: Office) -> None:
    sequence = await hive.done("alpha")
    await hive.table(lambda table: table.sequence == sequence)
    hive.start("two")
    await hive.performance("alpha", sequence)
    await hive.overwrite(CODE, b"not what it thinks")
    hive.kill("one")
    assert (await hive.table()).bots[ALPHA].samples == 1


async def test_after_the_broker_was_away_all_is_published_again(hive: Office) -> None:
    sequence = await hive.done("alpha")
    await hive.table(lambda table: table.sequence == sequence)
    await hive.overwrite(CODE, b"of a time that is over")
    hive.broker.restart()
    assert (await hive.table()).bots[ALPHA].samples == 1
    again = await hive.done("alpha", TaskType.WRITING)
    await hive.table(lambda table: table.sequence == again, TaskType.WRITING)


async def test_another_policy_is_obeyed_while_it_runs(hive: Office) -> None:
    await hive.done("alpha")
    assert (await hive.table()).policy == "efficient"
    await hive.configure(Config(scheduler_policy="cheap"))
    await hive.table(lambda table: table.policy == "cheap")
