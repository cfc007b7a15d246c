"""Three bots of known quality: the best is found, kept, and left when it turns bad. Seeds are fixed.

The choice is the orchestrator's own; the scheduler is played by a fold of a few lines: moving averages with
alpha 0.1, discounted counts, a table after each task. All runs are alike on every machine.
"""

from dataclasses import dataclass, field
from random import Random
from statistics import mean

import pytest

from services.orchestrator.placement import Asked, Placement
from services.orchestrator.waiting import wants_of
from shared.contracts.config import Config
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import BotId, Priority, TaskId, TaskType
from tests.services.orchestrator.builders import submitted
from tests.services.orchestrator.scenes import Stage
from tests.support.scenario import NOON

SEEDS = range(12)
ALPHA = 0.1
DISCOUNT = 0.98
QUALITY = {BotId("good"): 0.7, BotId("the-best"): 0.9, BotId("poor"): 0.5}
BEST, SECOND = BotId("the-best"), BotId("good")


@dataclass
class Known:
    """What is counted of one bot."""

    samples: int = 0
    success: float = 0.0
    successes: float = 0.0
    failures: float = 0.0

    def count(self, *, well: bool) -> None:
        self.samples += 1
        self.success += max(ALPHA, 1 / self.samples) * (well - self.success)
        self.successes = self.successes * DISCOUNT + well
        self.failures = self.failures * DISCOUNT + (not well)

    def standing(self) -> Standing:
        trusted = self.samples >= 3
        return Standing(
            samples=self.samples,
            successes=self.successes,
            failures=self.failures,
            success=self.success,
            speed=0.5,
            cost_usd=0.0,
            score=0.6 * self.success + 0.2 if trusted else 0.5,
            confidence=0.5,
            trusted=trusted,
        )


@dataclass
class World:
    """Tasks come one after another; `chosen` is who got each, `regret` what the best does better."""

    seed: int
    quality: dict[BotId, float] = field(default_factory=lambda: dict(QUALITY))
    chosen: list[BotId] = field(default_factory=list)
    explored: int = 0
    regret: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stage = Stage()
        for name in self.quality:
            self.stage.up(name)
        self.chance = Random(self.seed)
        self.placement = Placement(
            self.stage.board, self.stage.scene.placement.opinions, Random(self.seed + 1_000).random
        )
        self.known = {name: Known() for name in self.quality}

    def run(self, tasks: int, priority: Priority = Priority.P2) -> None:
        share = Config().explore_share
        for _ in range(tasks):
            self._tell()
            task_id = TaskId(f"t{len(self.chosen)}")
            asked = Asked(task_id, wants_of(submitted()), critical=priority is Priority.P0)
            choice = self.placement.at_once(asked, lambda _: True, share)
            assert choice is not None
            self.stage.board.release(task_id)
            self.known[choice.bot_id].count(well=self.chance.random() < self.quality[choice.bot_id])
            self.chosen.append(choice.bot_id)
            self.explored += choice.decision.explored
            self.regret.append(max(self.quality.values()) - self.quality[choice.bot_id])

    def _tell(self) -> None:
        bots = {name: known.standing() for name, known in self.known.items() if known.samples}
        kind = TaskType.CODE
        table = RoutingTable(type=kind, at=NOON, sequence=len(self.chosen), policy="efficient", bots=bots)
        self.placement.opinions.take_table(kind, table)

    def share(self, bot_id: BotId, first: int, last: int) -> float:
        """Which part of the tasks from the first to the last it got."""
        return self.chosen[first:last].count(bot_id) / (last - first)


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """Six hundred tasks, then the best turns bad, then six hundred more."""
    made = [World(seed) for seed in SEEDS]
    for world in made:
        world.run(600)
        world.quality[BEST] = 0.2
        world.run(600)
    return made


def test_after_300_tasks_nine_of_ten_go_to_the_best(worlds: list[World]) -> None:
    assert mean(world.share(BEST, 300, 600) for world in worlds) >= 0.9


def test_regret_falls(worlds: list[World]) -> None:
    by_hundred = [
        mean(mean(world.regret[first : first + 100]) for world in worlds) for first in range(0, 600, 100)
    ]
    assert by_hundred[0] > 2 * by_hundred[-1]
    assert mean(by_hundred[3:]) < 0.02


def test_when_the_best_turns_bad_the_second_has_its_place_within_150_tasks(worlds: list[World]) -> None:
    assert mean(world.share(SECOND, 750, 900) for world in worlds) >= 0.9
    assert all(world.share(BEST, 750, 900) <= 0.1 for world in worlds)


def test_what_is_spent_on_trying_others_is_within_the_share(worlds: list[World]) -> None:
    tasks = sum(len(world.chosen) for world in worlds)
    assert sum(world.explored for world in worlds) / tasks <= Config().explore_share


def test_a_bot_that_became_better_is_found() -> None:
    found = []
    for seed in range(6):
        world = World(seed)
        world.run(300)
        world.quality[BotId("poor")] = 1.0
        world.run(1_700)
        found.append(world.share(BotId("poor"), 1_600, 2_000))
    assert mean(found) >= 0.5


def test_critical_tasks_are_never_tried_out() -> None:
    world = World(1)
    world.run(100)
    world.run(500, Priority.P0)
    explored = world.explored
    world.run(100, Priority.P0)
    assert world.explored == explored
