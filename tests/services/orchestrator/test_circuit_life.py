"""A circuit while the orchestrator works, is restarted, and has a second runner beside it."""

import asyncio
from pathlib import Path

import msgspec

from services.orchestrator.facts import BOT_CODEC
from shared.contracts.config import Config
from shared.contracts.orchestrator.facts import CircuitClosed, CircuitHalfOpened, CircuitOpened
from shared.contracts.orchestrator.queries import BotDoc, GetBot, GetWhy
from shared.contracts.words import BotId, Priority, TaskId
from shared.runtime.memory import MemoryStore
from tests.services.orchestrator.builders import ALPHA, ONCE, done, report, submit, undone
from tests.services.orchestrator.workshop import Workshop, workshop

CIRCUIT = (CircuitOpened, CircuitHalfOpened, CircuitClosed)


def told(store: MemoryStore) -> list[str]:
    """What the log says of circuits, in order."""
    facts = [
        fact
        for stored in store._log
        if stored.aggregate == "bot"
        for fact in BOT_CODEC.decode_all(stored.commit.facts)
    ]
    return [type(fact).__name__ for fact in facts if isinstance(fact, CIRCUIT)]


async def run(shop: Workshop, task_id: str, *, ends_well: bool) -> None:
    """A task is submitted, given to alpha, and ends."""
    await shop.send(submit(task_id, retry=ONCE))
    assignment = await shop.assigned("alpha", task_id)
    await shop.send(report(done() if ends_well else undone(), assignment.token, task_id=task_id))


async def bot(shop: Workshop, name: str = "alpha") -> BotDoc:
    return await shop.answers.get_bot(GetBot(bot_id=BotId(name)))


async def is_circuit(shop: Workshop, state: str | None) -> bool:
    circuit = (await bot(shop)).circuit
    return (None if circuit is None else circuit.state) == state


async def test_failures_before_and_after_a_restart_are_counted_together(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await shop.up("alpha")
        for number in range(4):
            await run(shop, f"before-{number}", ends_well=False)
    async with workshop(tmp_path, store) as again:
        assert told(store) == []
        again.street.running[ALPHA] = 1
        again.beating[ALPHA] = set()
        await run(again, "after", ends_well=False)
        await again.until(lambda: is_circuit(again, "open"))
        await again.send(submit("waits"))
        why = await again.answers.get_why(GetWhy(task_id=TaskId("waits")))
        assert why.bots[0].bot == ALPHA
        assert why.bots[0].reason.startswith("its circuit is open until ")
        assert why.bots[0].reason.endswith("UTC: 5 failures in a row")
        await again.send(submit("wants-it", bot="alpha"))
        why = await again.answers.get_why(GetWhy(task_id=TaskId("wants-it")))
        assert why.advice == "it is tried again then; if it is repaired: hive bots circuit alpha close"
    assert told(store) == ["CircuitOpened"]
    async with workshop(tmp_path, store, "another") as third:
        assert await is_circuit(third, "open")
        assert third.scene.board.free(ALPHA) == 0


async def test_a_second_runner_for_a_moment_opens_it_once(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store, "one") as one, workshop(tmp_path, store, "two") as two:
        await one.up("alpha")
        two.beating[ALPHA] = set()
        for number in range(5):
            await run(one, f"t{number}", ends_well=False)
        await one.until(lambda: is_circuit(one, "open"))
        await two.until(lambda: is_circuit(two, "open"))
        await two.orchestrator.todo(two.owned)
        await one.orchestrator.todo(one.owned)
    assert told(store) == ["CircuitOpened"]


async def test_it_is_tried_one_by_one_and_closes(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        shop.config = msgspec.structs.replace(Config(), circuit_open_s=0.3)
        await shop.up("alpha")
        for number in range(5):
            await run(shop, f"t{number}", ends_well=False)
        await shop.until(lambda: "CircuitHalfOpened" in told(store))
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(shop.send(submit(f"trial-{number}")))
        finished: set[str] = set()
        while len(finished) < 3:
            running = {each.task_id for each in shop.street.assignments[ALPHA]} - finished
            trials = {task_id for task_id in running if task_id.startswith("trial")}
            if not trials:
                await shop.until(lambda: len(shop.street.assignments[ALPHA]) > 5 + len(finished))
                continue
            assert len(trials) == 1
            [task_id] = trials
            token = shop.street.assignments[ALPHA][-1].token
            finished.add(task_id)
            await shop.send(report(done(), token, task_id=task_id))
        await shop.until(lambda: is_circuit(shop, None))
    assert told(store) == ["CircuitOpened", "CircuitHalfOpened", "CircuitClosed"]


async def test_a_failed_trial_opens_it_again(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        shop.config = msgspec.structs.replace(Config(), circuit_open_s=0.3)
        await shop.up("alpha")
        for number in range(5):
            await run(shop, f"t{number}", ends_well=False)
        await shop.until(lambda: "CircuitHalfOpened" in told(store))
        shop.config = Config()
        await run(shop, "trial", ends_well=False)
        await shop.until(lambda: is_circuit(shop, "open"))
        await shop.send(submit("urgent", priority=Priority.P0))
        assert await shop.is_in("urgent", "queued")
    assert told(store) == ["CircuitOpened", "CircuitHalfOpened", "CircuitOpened"]
