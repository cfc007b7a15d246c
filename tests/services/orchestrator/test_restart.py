"""A start from what is alive gives what a start from the whole log gives, whatever happened before."""

import asyncio
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from services.orchestrator.commands import (
    LoseAttempt,
    NoteBotCleared,
    NoteBotDead,
    NoteBotStopped,
    NoteBotUp,
    NoteLaunchFailed,
    ReleaseTask,
    RestartDeadBot,
)
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.decider.bot_state import (
    Broken,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
)
from services.orchestrator.decider.task_state import Blocked, Ended, Held, Waiting
from services.orchestrator.facts import BOT_CODEC, TASK_CODEC
from shared.contracts.orchestrator.commands import (
    CancelTask,
    ClaimTask,
    CloseCircuit,
    End,
    LaunchBot,
    OpenCircuit,
    ResumeTask,
    RetireBot,
    StopBot,
)
from shared.contracts.orchestrator.facts import BotSpec, RetryPolicy
from shared.contracts.orchestrator.queries import (
    GetBot,
    GetBotHistory,
    GetCounts,
    GetTask,
    GetTimeline,
    GetWhy,
    ListBots,
    ListTasks,
)
from shared.contracts.words import BotId, SideEffects, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Commit, Committed
from shared.runtime.handler import recorded
from shared.runtime.memory import MemoryStore
from tests.services.orchestrator.builders import ERROR, assign, done, report, stopped, submit, undone
from tests.services.orchestrator.workshop import ALL, Workshop, workshop
from tests.support.scenario import NOON

TASKS = 40
STEPS = 60
STARTS = 4
BOTS = tuple(BotId(name) for name in ("alpha", "beta", "gamma"))
WITHIN_S = 20.0


class Log:
    """A log that grows by decisions, as the handlers make it grow; an empty clock."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.states: dict[str, Any] = {}
        self.at = NOON

    def state(self, key: str) -> Any:
        return self.states.get(key, NoBot() if key in BOTS else TASK.initial)

    def send(self, command: Any) -> None:
        key = command.key
        decider: Any = BOT if key in BOTS else TASK
        codec: Any = BOT_CODEC if key in BOTS else TASK_CODEC
        try:
            facts = decider.decide(self.state(key), command, self.at)
        except Rejected:
            return
        if facts:
            raw = [msgspec.Raw(encode(fact)) for fact in facts]
            number = len(self.store._log) + 1
            commit = Commit(
                id=f"c{number}", at=self.at, actor="key-1", cause=f"command-{number}", chain=key, facts=raw
            )
            sequence = self.store._store("bot" if key in BOTS else "task", key, commit)
            self.states[key] = decider.fold(self.state(key), codec.decode_all(raw), sequence, self.at)


def replay(shop: Workshop) -> None:
    """Everything in the log is applied, as a start did it before there was a table to begin from."""
    for stored in shop.store._log:
        codec: Any = BOT_CODEC if stored.aggregate == "bot" else TASK_CODEC
        facts = codec.decode_all(stored.commit.facts)
        shop.orchestrator.followed(
            recorded(facts, stored.commit, stored.aggregate, stored.aggregate_id, stored.sequence)
        )


def board_of(shop: Workshop) -> dict[str, Any]:
    """Everything that the board and what stands around it know."""
    board = shop.scene.board
    board.own_partitions(ALL)
    return {
        "tasks": {key: (entry.state, entry.line.version, entry.cause) for key, entry in board.tasks.items()},
        "bots": {key: (entry.state, entry.line.version, entry.cause) for key, entry in board.bots.items()},
        "held": {key: held for key, held in board.held.items() if held},
        "outcomes": {key: known for key, known in board.tally.outcomes.items() if known},
        "verdicts": board.tally.verdicts,
        "room": board.room,
        "counts": +board.counts,
        "cleared": board.cleared,
        "families": board.families.children,
        "descents": board.kin._descents,
        "offspring": board.kin._offspring,
        "dependents": {key: dependent.order for key, dependent in board.kin._dependents.items()},
        "heirs": board.kin._heirs,
        "reached": board.reached,
        "waiting": {key for key in board.tasks if key in board.lines},
        "overdue": sorted(board.overdue(NOON + timedelta(days=365))),
        "leases": {token: lease.task_id for token, lease in shop.scene.liveness.leases.items()},
        "documents": shop.answers._bots,
    }


class Lives:
    """Tasks and bots live any lives, as chance has it."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.log = Log()

    def step(self) -> None:
        """One thing happens to somebody."""
        actions = [
            self.submit,
            self.submit,
            self.spawn,
            self.release,
            self.assign,
            self.assign,
            self.report,
            self.lose,
            self.ask,
        ]
        actions += [
            self.launch,
            self.come_up,
            self.come_up,
            self.die,
            self.fail,
            self.rise,
            self.stop,
            self.retire,
            self.open_circuit,
        ]
        self.chance.choice(actions)()
        self.log.at += timedelta(seconds=self.chance.choice((0, 1)))

    def submit(self) -> None:
        retry = RetryPolicy(
            side_effects=self.chance.choice(list(SideEffects)), attempts_max=self.chance.choice((1, 2))
        )
        deadline = self.chance.choice((None, self.log.at + timedelta(hours=1)))
        after = tuple(self.some_task() for _ in range(self.chance.choice((0, 0, 0, 2))))
        self.log.send(submit(self.some_task(), retry=retry, deadline=deadline, after=after))

    def spawn(self) -> None:
        if held := self.held():
            ancestors = (*held.order.ancestors, held.order.task_id)
            self.log.send(submit(self.some_task(), ancestors=ancestors, spawned_by=held.bot_id))

    def some_task(self) -> TaskId:
        return TaskId(f"t{self.chance.randrange(TASKS)}")

    def release(self) -> None:
        self.log.send(ReleaseTask(task_id=self.some_task()))

    def assign(self) -> None:
        self.log.send(assign(self.chance.choice(BOTS), f"t{self.chance.randrange(TASKS)}"))

    def report(self) -> None:
        if held := self.held():
            ends: list[End] = [
                done(),
                done(),
                undone(),
                undone(retryable=False),
                stopped(begun=True),
            ]
            self.log.send(report(self.chance.choice(ends), held.token, held.bot_id, held.order.task_id))

    def lose(self) -> None:
        if held := self.held():
            task_id = held.order.task_id
            self.log.send(ClaimTask(task_id=task_id, bot_id=held.bot_id, token=held.token))
            if self.chance.choice((True, False)):
                self.log.send(LoseAttempt(task_id=task_id, token=held.token, reason="bot_silent"))

    def ask(self) -> None:
        task_id = TaskId(f"t{self.chance.randrange(TASKS)}")
        ask: CancelTask | ResumeTask = self.chance.choice(
            (CancelTask(task_id=task_id), CancelTask(task_id=task_id, tree=True), ResumeTask(task_id=task_id))
        )
        self.log.send(ask)

    def launch(self) -> None:
        spec = BotSpec(engine=self.chance.choice(("echo", "shell")))
        self.log.send(LaunchBot(bot_id=self.chance.choice(BOTS), spec=spec))

    def come_up(self) -> None:
        bot_id, generation = self.bot()
        self.log.send(NoteBotUp(bot_id=bot_id, generation=generation, pid=1, host="local"))

    def die(self) -> None:
        bot_id, generation = self.bot()
        at = self.log.at + timedelta(seconds=1)
        self.log.send(
            NoteBotDead(bot_id=bot_id, generation=generation, reason="gone", seen_at=at, crashed=True)
        )

    def fail(self) -> None:
        bot_id, generation = self.bot()
        self.log.send(NoteLaunchFailed(bot_id=bot_id, generation=generation, error=ERROR))

    def rise(self) -> None:
        bot_id, generation = self.bot()
        state = self.log.state(bot_id)
        if isinstance(state, Restarting):
            self.log.at = max(self.log.at, state.restart_at)
            self.log.send(RestartDeadBot(bot_id=bot_id, generation=generation))

    def stop(self) -> None:
        bot_id, generation = self.bot()
        self.log.send(StopBot(bot_id=bot_id))
        if self.chance.choice((True, False)):
            self.log.send(NoteBotStopped(bot_id=bot_id, generation=generation))

    def retire(self) -> None:
        bot_id, generation = self.bot()
        self.log.send(RetireBot(bot_id=bot_id))
        if self.chance.choice((True, False)):
            self.log.send(NoteBotCleared(bot_id=bot_id, generation=generation))

    def open_circuit(self) -> None:
        bot_id, _ = self.bot()
        kind = self.chance.choice((OpenCircuit, CloseCircuit))
        self.log.send(kind(bot_id=bot_id))

    def held(self) -> Held | None:
        held = [state for state in self.log.states.values() if isinstance(state, Held)]
        return self.chance.choice(held) if held else None

    def bot(self) -> tuple[BotId, int]:
        bot_id = self.chance.choice(BOTS)
        state = self.log.state(bot_id)
        return bot_id, 1 if isinstance(state, NoBot) else state.generation


async def begun(folder: Path, store: MemoryStore, instance: str) -> dict[str, Any]:
    """What is known after a start with this instance's file."""
    live = Workshop(folder, store, instance)
    await live.table.open(await store.identity(), await store.last_sequence())
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(live.follower.run()), group.create_task(live.table.run())]
        await live.follower.reached(await store.last_sequence(), within_s=WITHIN_S)
        found = board_of(live)
        for task in running:
            task.cancel()
    await live.table.close()
    return found


@pytest.mark.parametrize("seed", range(12))
async def test_a_start_from_what_is_alive_gives_what_the_whole_log_gives(tmp_path: Path, seed: int) -> None:
    lives = Lives(seed)
    for part in range(STARTS):
        for _ in range(STEPS):
            lives.step()
        full = Workshop(tmp_path, lives.log.store, "full")
        replay(full)
        wanted = board_of(full)
        assert await begun(tmp_path, lives.log.store, "goes-on") == wanted
        assert await begun(tmp_path, lives.log.store, f"from-nothing-{part}") == wanted


def test_the_lives_that_chance_has_know_every_state() -> None:
    seen: set[type] = set()
    for seed in range(12):
        lives = Lives(seed)
        for _ in range(STARTS * STEPS):
            lives.step()
            seen |= {type(state) for state in lives.log.states.values()}
    assert seen >= {Waiting, Held, Blocked, Ended}
    assert seen >= {Starting, Up, Stopping, Stopped, Restarting, Broken, Retired}


async def test_what_ended_before_a_restart_is_answered_for_after_it(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await shop.up("alpha")
        await shop.send(submit("t1"))
        assignment = await shop.assigned("alpha", "t1")
        await shop.send(report(done("hello"), assignment.token, task_id="t1"))
        await shop.send(RetireBot(bot_id=BOTS[0]))
        shop.beating.clear()

        async def cleared() -> bool:
            return BOTS[0] not in shop.scene.board.bots

        await shop.until(cleared)
        before = await answers(shop)
    async with workshop(tmp_path, store) as again:
        assert again.scene.board.tasks == {}
        assert again.scene.board.bots == {}
        assert again.answers._bots == {}
        assert await answers(again) == before


async def answers(shop: Workshop) -> list[Any]:
    """All that can be asked about one task and one bot."""
    task_id, bot_id = TaskId("t1"), BOTS[0]
    return [
        await shop.answers.get_task(GetTask(task_id=task_id)),
        await shop.answers.get_timeline(GetTimeline(task_id=task_id)),
        await shop.answers.get_why(GetWhy(task_id=task_id)),
        await shop.answers.list_tasks(ListTasks()),
        await shop.answers.get_bot(GetBot(bot_id=bot_id)),
        await shop.answers.get_history(GetBotHistory(bot_id=bot_id)),
        await shop.answers.list_bots(ListBots(retired=True)),
        await shop.answers.get_counts(GetCounts()),
    ]


async def test_a_cleared_name_can_be_launched_again_after_a_restart(tmp_path: Path) -> None:
    store = MemoryStore()
    async with workshop(tmp_path, store) as shop:
        await shop.up("alpha")
        await shop.send(RetireBot(bot_id=BOTS[0]))
        shop.beating.clear()

        async def cleared() -> bool:
            return BOTS[0] not in shop.scene.board.bots

        await shop.until(cleared)
    async with workshop(tmp_path, store) as again:
        assert isinstance(await again.send(LaunchBot(bot_id=BOTS[0], spec=BotSpec(engine="echo"))), Committed)
        bot = await again.answers.get_bot(GetBot(bot_id=BOTS[0]))
        assert (bot.generation, again.scene.board.cleared) == (2, 0)
        assert "retired" not in (await again.answers.get_counts(GetCounts())).bots
