"""What it costs to choose a bot: the orchestrator's own code on a board of 200 bots, nothing around it."""

from datetime import UTC, datetime
from random import Random
from statistics import median
from time import process_time
from timeit import repeat
from typing import Any, Final

from services.orchestrator.board import Board
from services.orchestrator.facts import BotEvent
from services.orchestrator.liveness import Liveness
from services.orchestrator.opinions import Opinions
from services.orchestrator.placement import Asked, Placement
from services.orchestrator.waiting import Wants
from shared.contracts.orchestrator.facts import BotCameUp, BotLaunched, BotSpec
from shared.contracts.orchestrator.protocol import Heartbeat
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import PARTITIONS, BotId, TaskId, TaskType
from shared.kernel.messages import Cause, Recorded

BOTS: Final = 200
CHOICES: Final = 2_000
ROUNDS: Final = 7
EXPLORE_SHARE: Final = 0.05
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_CAUSE: Final = Cause(message_id="m", correlation_id="c", actor="bench")
_WANTS: Final = Wants(TaskType.CODE, None, None, None)
_ASKED: Final = Asked(TaskId("t"), _WANTS)


def measure() -> dict[str, float]:
    """Microseconds of CPU for a choice, medians: learned, all alike, one bot of 200 free; after news."""
    learned, board, opinions = _fleet(told=True)
    alike = _fleet(told=False)[0]
    crowded, full, _ = _fleet(told=True)
    for number in range(BOTS - 1):
        for slot in range(3):
            full.reserve(TaskId(f"t{number}-{slot}"), BotId(f"bot-{number}"))

    def news() -> None:
        opinions.news[TaskType.CODE] += 1
        learned(_ASKED)

    assert board.room
    return {
        "learned": _us(lambda: learned(_ASKED)),
        "alike": _us(lambda: alike(_ASKED)),
        "one_free": _us(lambda: crowded(_ASKED)),
        "after_news": _us(news, 20),
    }


def _us(choose: Any, choices: int = CHOICES) -> float:
    choose()
    return round(median(repeat(choose, timer=process_time, number=choices, repeat=ROUNDS)) / choices * 1e6, 1)


def _fleet(*, told: bool) -> tuple[Any, Board, Opinions]:
    """How to choose among 200 bots that are up and heard; `told`: the scheduler knows each of them."""
    chance, board, opinions, liveness = Random(1), Board(), Opinions(), Liveness(0.0)
    board.own_partitions(frozenset(range(PARTITIONS)))
    names = [BotId(f"bot-{number}") for number in range(BOTS)]
    for number, name in enumerate(names):
        launched: BotEvent = BotLaunched(bot_id=name, spec=BotSpec(engine="echo"), generation=1)
        up: BotEvent = BotCameUp(bot_id=name, generation=1, pid=1, host="local")
        for step, fact in enumerate((launched, up)):
            board.followed_bot(
                Recorded[BotEvent](
                    facts=(fact,),
                    commit_id=f"{number}-{step}",
                    aggregate="bot",
                    aggregate_id=name,
                    sequence=2 * number + step + 1,
                    at=_AT,
                    cause=_CAUSE,
                )
            )
        liveness.hear(Heartbeat(bot_id=name, generation=1, pid=1, host="local"), 0.0)
    if told:
        standings = {name: _standing(chance) for name in names}
        table = RoutingTable(type=TaskType.CODE, at=_AT, sequence=9, policy="efficient", bots=standings)
        opinions.take_table(TaskType.CODE, table)
    placement = Placement(board, opinions, chance.random)

    def choose(asked: Asked) -> object:
        return placement.choose(asked, lambda bot_id: liveness.is_ready(bot_id, 1.0), EXPLORE_SHARE)

    return choose, board, opinions


def _standing(chance: Random) -> Standing:
    success, speed = chance.random(), chance.random()
    return Standing(
        samples=50,
        successes=40 * success,
        failures=40 * (1 - success),
        success=success,
        speed=speed,
        cost_usd=0.01,
        score=0.6 * success + 0.4 * speed,
        confidence=0.9,
        trusted=True,
    )
