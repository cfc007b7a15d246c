"""Which bot is chosen by what is known of it, who is tried beside the best, and what is recorded of that."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.opinions import Opinions
from services.orchestrator.placement import GIVEN_TO_NEWCOMERS, Asked, Choice
from services.orchestrator.standing import EVEN, EXPLORED_MAX, ranking
from services.orchestrator.waiting import wants_of
from shared.contracts.health import Health, Level
from shared.contracts.orchestrator.facts import BotSpec, CircuitHalfOpened, CircuitOpened
from shared.contracts.scheduler.routing import RoutingTable, Standing
from shared.contracts.words import BotId, TaskId, TaskType
from tests.services.orchestrator.builders import T1, assigned, submitted
from tests.services.orchestrator.scenes import Stage
from tests.support.scenario import NOON

CODE = TaskType.CODE
READY = lambda _: True  # noqa: E731 - every bot is heard


def standing(score: float, *, samples: int = 50, success: float | None = None, **more: Any) -> Standing:
    won = score if success is None else success
    fields: dict[str, Any] = {
        "samples": samples,
        "successes": min(samples, 40) * won,
        "failures": min(samples, 40) * (1 - won),
        "success": won,
        "speed": 0.5,
        "cost_usd": 0.0,
        "score": score,
        "confidence": 0.9,
        "trusted": samples >= 3,
    }
    return Standing(**fields | more)


def table(known: Mapping[str, Standing]) -> RoutingTable:
    bots = {BotId(name): each for name, each in known.items()}
    return RoutingTable(type=CODE, at=NOON, sequence=7, policy="efficient", bots=bots)


def stage_of(*names: str, known: Mapping[str, Standing] = {}, slots: int = 3) -> Stage:
    """Bots that are up, and what the scheduler knows of them."""
    stage = Stage()
    for name in names:
        stage.up(name, BotSpec(engine="echo", slots=slots))
    stage.scene.placement.opinions.take_table(CODE, table(known))
    return stage


def choose(stage: Stage, *, share: float = 0.0, ready: Callable[[str], bool] = READY, **asked: Any) -> Choice:
    choice = stage.scene.placement.choose(Asked(T1, wants_of(submitted()), **asked), ready, share)
    assert choice is not None
    return choice


def draws(stage: Stage, numbers: Iterable[float]) -> None:
    """Chance says these numbers, one after the other."""
    stage.scene.placement._draw = iter(numbers).__next__


KNOWN = {"alpha": standing(0.6), "beta": standing(0.9), "gamma": standing(0.3)}


# The best.


def test_the_best_score_counts_more_than_free_slots() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    stage.tell(submitted("t2"), assigned("beta", task_id="t2"))
    decision = choose(stage).decision
    assert [each.bot_id for each in decision.candidates] == ["beta", "alpha", "gamma"]
    assert [each.score for each in decision.candidates] == [0.9, 0.6, 0.3]
    assert [each.free for each in decision.candidates] == [2, 3, 3]
    assert [each.samples for each in decision.candidates] == [50, 50, 50]
    assert (decision.policy, decision.table_sequence) == ("efficient", 7)
    assert (decision.explored, decision.propensity) == (False, 1.0)


def test_bots_of_the_same_score_are_told_apart_by_free_slots_then_by_name() -> None:
    stage = stage_of("a", "b", "c", known=dict.fromkeys("abc", standing(0.5)))
    assert choose(stage).bot_id == "a"
    stage.tell(submitted("t2"), assigned("a", task_id="t2"))
    assert choose(stage).bot_id == "b"


def test_the_best_who_is_free_and_heard_gets_it() -> None:
    stage = stage_of("alpha", "beta", "gamma", slots=1, known=KNOWN)
    stage.tell(submitted("t2"), assigned("beta", task_id="t2"))
    assert choose(stage).bot_id == "alpha"
    decision = choose(stage, ready=lambda bot_id: bot_id != "alpha").decision
    assert decision.candidates[0].bot_id == "gamma"
    assert decision.passed_over == {"no_free_slot": 1, "not_heard": 1}


def test_a_table_of_another_type_says_nothing() -> None:
    stage = stage_of("alpha", "beta")
    stage.scene.placement.opinions.take_table(CODE, None)
    stage.scene.placement.opinions.take_table(TaskType.WRITING, table({"beta": standing(0.9)}))
    decision = choose(stage, share=1.0).decision
    assert (decision.candidates[0].bot_id, decision.policy) == ("alpha", "most_free")
    assert (decision.explored, decision.propensity, decision.table_sequence) == (False, 1.0, 0)


def test_a_new_table_counts_at_once_and_one_taken_back_no_more() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    assert choose(stage).bot_id == "beta"
    opinions = stage.scene.placement.opinions
    opinions.take_table(CODE, table(KNOWN | {"gamma": standing(0.95)}))
    assert choose(stage).bot_id == "gamma"
    opinions.take_table(CODE, None)
    assert choose(stage).bot_id == "alpha"


def test_what_was_chosen_is_among_the_candidates_whoever_the_best_are() -> None:
    names = [f"b{number}" for number in range(8)]
    known = {name: standing(0.9 - 0.1 * number) for number, name in enumerate(names)}
    stage = stage_of(*names, known=known)
    draws(stage, [0.0, 0.9999])
    decision = choose(stage, share=0.5).decision
    assert decision.explored
    assert decision.candidates[0].bot_id not in names[:5]
    assert [each.bot_id for each in decision.candidates[1:]] == names[:4]


# Health.


def test_a_degraded_bot_weighs_half_and_a_critical_one_gets_nothing() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    opinions = stage.scene.placement.opinions
    opinions.take_health(BotId("beta"), Health(level=Level.DEGRADED))
    decision = choose(stage).decision
    assert [(each.bot_id, each.score) for each in decision.candidates] == [
        ("alpha", 0.6),
        ("beta", 0.45),
        ("gamma", 0.3),
    ]
    opinions.take_health(BotId("alpha"), Health(level=Level.CRITICAL))
    decision = choose(stage).decision
    assert decision.candidates[0].bot_id == "beta"
    assert decision.passed_over == {"critical": 1}
    opinions.take_health(BotId("alpha"), None)
    assert choose(stage).bot_id == "alpha"


def test_health_counts_without_a_scheduler_too() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.up("beta")
    stage.scene.placement.opinions.take_health(BotId("alpha"), Health(level=Level.DEGRADED))
    assert choose(stage).bot_id == "beta"


# Who is to be known.


def test_who_is_not_known_is_given_enough_to_be_known_then_waits_for_its_ends() -> None:
    stage = stage_of("alpha", "new", slots=9, known={"alpha": standing(0.9)})
    taken = []
    for number in range(GIVEN_TO_NEWCOMERS + 2):
        asked = Asked(TaskId(f"t{number}"), wants_of(submitted()))
        choice = stage.scene.placement.at_once(asked, READY)
        assert choice is not None
        taken.append((choice.bot_id, choice.decision.policy))
    assert taken == [("new", "newcomer")] * GIVEN_TO_NEWCOMERS + [("alpha", "efficient")] * 2


def test_who_is_known_and_was_forgotten_begins_anew() -> None:
    stage = stage_of("alpha", "new", slots=30, known={"alpha": standing(0.9)})
    opinions = stage.scene.placement.opinions

    def given_to_new() -> int:
        asked = [Asked(TaskId(f"{stage.sequence}-{n}"), wants_of(submitted())) for n in range(6)]
        choices = [stage.scene.placement.at_once(each, READY) for each in asked]
        return sum(choice is not None and choice.bot_id == "new" for choice in choices)

    assert given_to_new() == GIVEN_TO_NEWCOMERS
    opinions.take_table(CODE, table({"alpha": standing(0.9), "new": standing(0.2)}))
    stage.sequence += 1
    assert given_to_new() == 0
    opinions.take_table(CODE, table({"alpha": standing(0.9)}))
    stage.sequence += 1
    assert given_to_new() == GIVEN_TO_NEWCOMERS


def test_a_critical_task_makes_nobody_known_and_tries_nobody_out() -> None:
    stage = stage_of("alpha", "beta", "new", known=KNOWN)
    draws(stage, [])
    decision = choose(stage, critical=True, share=1.0).decision
    assert decision.candidates[0].bot_id == "beta"
    assert (decision.explored, decision.propensity, decision.policy) == (False, 1.0, "efficient")


# Exploration.


def test_another_than_the_best_is_tried_by_its_chance_of_being_the_best() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    rank = stage.scene.placement.ranking(wants_of(submitted()))
    chances = dict(rank.chances)
    assert sum(chances.values()) == pytest.approx(1.0)
    assert chances["beta"] > chances["alpha"] > chances["gamma"] >= EVEN / 3  # type: ignore[index]
    draws(stage, [0.04, 0.9999])
    decision = choose(stage, share=0.05).decision
    assert (decision.candidates[0].bot_id, decision.explored) == ("gamma", True)
    assert decision.propensity == pytest.approx(0.05 * chances[BotId("gamma")], abs=1e-6)
    assert decision.candidates[0].chance == pytest.approx(chances[BotId("gamma")], abs=1e-6)
    draws(stage, [0.05])
    decision = choose(stage, share=0.05).decision
    assert (decision.candidates[0].bot_id, decision.explored) == ("beta", False)
    assert decision.propensity == pytest.approx(0.95 + 0.05 * chances[BotId("beta")], abs=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_recorded_propensity_is_how_often_a_bot_is_taken(share: float) -> None:
    known = {"alpha": standing(0.7), "beta": standing(0.75), "gamma": standing(0.6), "delta": standing(0.5)}
    stage = stage_of("alpha", "beta", "gamma", "delta", known=known)
    taken: Counter[BotId] = Counter()
    said: dict[BotId, float] = {}
    number = 40_000
    for _ in range(number):
        choice = choose(stage, share=share, ready=lambda bot_id: bot_id != "alpha")
        taken[choice.bot_id] += 1
        assert choice.decision.propensity is not None
        said[choice.bot_id] = choice.decision.propensity
    assert sum(said.values()) == pytest.approx(1.0, abs=1e-5)
    for bot_id, propensity in said.items():
        deviation = (propensity * (1 - propensity) / number) ** 0.5
        assert abs(taken[bot_id] / number - propensity) < 4 * deviation


def test_neither_an_open_circuit_nor_the_bot_of_the_last_failure_is_tried() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    until = NOON + timedelta(seconds=300)
    stage.tell(CircuitOpened(bot_id=BotId("gamma"), reason="why", until=until))
    for _ in range(200):
        choice = choose(stage, share=0.5, avoid=BotId("alpha"))
        assert choice.bot_id == "beta"
        assert choice.decision.passed_over == {"circuit_open": 1}
        assert choice.decision.propensity == 1.0


def test_only_so_many_are_tried_and_the_hopeful_first() -> None:
    names = [f"b{number:03}" for number in range(200)]
    known = {BotId(name): standing(number / 200) for number, name in enumerate(names)}
    opinions = Opinions()
    opinions.take_table(CODE, RoutingTable(type=CODE, at=NOON, sequence=1, policy="p", bots=known))
    rank = ranking([BotId(name) for name in names], CODE, opinions)
    assert len(rank.chances) == EXPLORED_MAX
    assert rank.chances[0][0] in names[-3:]
    assert {bot_id for bot_id, _ in rank.chances} <= set(names[-40:])


# Trials of half-open circuits.


def half_open(stage: Stage, name: str) -> None:
    until = NOON + timedelta(seconds=300)
    stage.tell(CircuitOpened(bot_id=BotId(name), reason="why", until=until))
    stage.tell(CircuitHalfOpened(bot_id=BotId(name)))


def test_a_trial_comes_first_but_not_on_a_critical_task_nor_on_a_last_try() -> None:
    stage = stage_of("alpha", "beta", "gamma", known=KNOWN)
    half_open(stage, "gamma")
    assert [choose(stage, share=1.0).bot_id, choose(stage).decision.policy] == ["gamma", "trial"]
    assert choose(stage, critical=True).bot_id == "beta"
    assert choose(stage, last_try=True).bot_id == "beta"
    assert choose(stage, avoid=BotId("gamma")).bot_id == "beta"


def test_a_critical_task_is_the_trial_where_nobody_else_can_have_it() -> None:
    stage = stage_of("alpha", "gamma", slots=1, known=KNOWN)
    half_open(stage, "gamma")
    stage.tell(submitted("t2"), assigned("alpha", task_id="t2"))
    assert choose(stage, critical=True).bot_id == "gamma"


def test_the_bot_of_the_last_failure_gets_it_only_if_nobody_else_can() -> None:
    stage = stage_of("alpha", "beta", slots=1, known=KNOWN)
    assert choose(stage, avoid=BotId("beta")).bot_id == "alpha"
    stage.tell(submitted("t2"), assigned("alpha", task_id="t2"))
    assert choose(stage, avoid=BotId("beta")).bot_id == "beta"


# Always.


@given(
    known=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), max_size=6),
    busy=st.sets(st.sampled_from("abcdef")),
    quiet=st.sets(st.sampled_from("abcdef")),
    critical=st.booleans(),
    avoid=st.none() | st.sampled_from("abcdef"),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1_000),
)
def test_whoever_is_chosen_could_have_it_and_what_is_recorded_is_so(
    *,
    known: dict[str, float],
    busy: set[str],
    quiet: set[str],
    critical: bool,
    avoid: str | None,
    share: float,
    seed: int,
) -> None:
    stage = stage_of(*"abcdef", slots=1, known={name: standing(score) for name, score in known.items()})
    for name in busy:
        stage.tell(submitted(f"t-{name}"), assigned(name, task_id=f"t-{name}"))
    stage.scene.placement._draw = Random(seed).random
    asked = Asked(T1, wants_of(submitted()), None if avoid is None else BotId(avoid), critical)
    choice = stage.scene.placement.choose(asked, lambda bot_id: bot_id not in quiet, share)
    able = set("abcdef") - busy - quiet
    if choice is None:
        assert not able
        return
    decision = choice.decision
    assert choice.bot_id in able
    assert choice.bot_id != avoid or able == {avoid}
    assert decision.candidates[0].bot_id == choice.bot_id
    assert {each.bot_id for each in decision.candidates} <= able
    assert decision.propensity is not None
    assert 0 < decision.propensity <= 1
    assert not (critical and (decision.explored or decision.policy == "newcomer"))
