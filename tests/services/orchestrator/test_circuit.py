"""A bot's circuit: what counts against it, when it opens, how it is tried, when it closes."""

from datetime import timedelta
from itertools import permutations
from random import Random
from typing import Any

import pytest

from services.orchestrator import reactions
from services.orchestrator.commands import MendCircuit, TripCircuit, TryCircuit
from services.orchestrator.decider.bot_state import Up
from services.orchestrator.decider.circuit import Closed, HalfOpen, decide
from services.orchestrator.outcomes import WINDOW, Mend, Outcome, Trip, judge, outcome_of, remember
from services.orchestrator.placement import Asked
from services.orchestrator.steps import Decide, key_of
from services.orchestrator.waiting import wants_of
from shared.contracts.orchestrator.commands import CloseCircuit, OpenCircuit
from shared.contracts.orchestrator.facts import (
    BotSpec,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    TaskCancelled,
    TaskExpired,
)
from shared.contracts.words import BotId, TaskId
from tests.services.orchestrator.builders import (
    ALPHA,
    T1,
    assigned,
    bot,
    came_up,
    completed,
    failed,
    launched,
    lost,
    restarted,
    retired,
    submitted,
    withdrawn,
)
from tests.services.orchestrator.scenes import Stage
from tests.support.scenario import NOON

UNTIL = NOON + timedelta(seconds=300)
OPENED = CircuitOpened(bot_id=ALPHA, reason="5 failures in a row", until=UNTIL, failures=5, attempts=5)
TRIED = CircuitHalfOpened(bot_id=ALPHA)


def ends(how: str, first: int = 10) -> tuple[Outcome, ...]:
    """Attempts of different tasks, one after the other: `+` succeeded, `-` failed."""
    return tuple(
        Outcome(
            first + 2 * n + 1, first + 2 * n, TaskId(f"t{first}-{n}"), "succeeded" if end == "+" else "failed"
        )
        for n, end in enumerate(how)
    )


# What counts.


@pytest.mark.parametrize(
    ("fact", "how"),
    [
        (completed(), "succeeded"),
        (failed(), "failed"),
        (lost(reason="timed_out"), "failed"),
        (lost(reason="no_longer_held"), "failed"),
        (lost(reason="bot_died"), "gone"),
        (lost(reason="bot_silent"), "gone"),
        (lost(reason="cut_off"), "gone"),
    ],
)
def test_an_attempt_that_the_bot_made_counts(fact: Any, how: str) -> None:
    assert outcome_of(fact, 9) == (ALPHA, Outcome(9, 2, T1, how))


@pytest.mark.parametrize(
    "fact",
    [
        failed(retryable=False),
        withdrawn(),
        TaskCancelled(task_id=T1, reason="asked", bot_id=ALPHA),
        TaskExpired(task_id=T1, deadline=NOON, bot_id=ALPHA),
        lost(reason="bot_restarted"),
        lost(reason="bot_stopped"),
        lost(reason="bot_retired"),
        lost(reason="shut_down"),
    ],
)
def test_what_is_the_tasks_own_fault_or_was_asked_for_does_not_count(fact: Any) -> None:
    assert outcome_of(fact, 9) is None


def test_a_task_that_fails_again_and_again_counts_once() -> None:
    known: tuple[Outcome, ...] = ()
    for n in range(1, 6):
        known = remember(known, Outcome(10 * n, 10 * n - 1, T1, "failed"))
    assert known == (Outcome(50, 49, T1, "failed"),)


def test_what_one_death_took_counts_once() -> None:
    known: tuple[Outcome, ...] = ()
    for n in range(10):
        known = remember(known, Outcome(20 + n, 1 + n, TaskId(f"t{n}"), "gone"))
    assert len(known) == 1
    assert len(remember(known, Outcome(40, 35, TaskId("later"), "gone"))) == 2


def test_the_order_in_which_it_is_told_and_how_often_does_not_matter() -> None:
    told = [*ends("+-+-"), Outcome(30, 29, TaskId("t10-1"), "succeeded")]
    found = set()
    for order in permutations(told):
        known: tuple[Outcome, ...] = ()
        for each in (*order, *order):
            known = remember(known, each)
        found.add(known)
    assert len(found) == 1


def test_only_the_last_ones_are_kept() -> None:
    known: tuple[Outcome, ...] = ()
    for each in ends("-" * 30 + "+" * WINDOW):
        known = remember(known, each)
    assert known == ends("-" * 30 + "+" * WINDOW)[-WINDOW:]


# When it opens and closes.


@pytest.mark.parametrize(
    ("how", "opens"),
    [
        ("----", False),
        ("-----", True),
        ("++++++++-----", True),
        ("-----+", False),
        ("-+-+-+-+-", False),
        ("-+-+-+-+-+", True),
        ("++++++----", False),
        ("+++++---++--", False),
        ("+-+-+-+-+-+-", True),
        ("+" * 11 + "-+" * 4 + "-", False),
    ],
)
def test_it_opens_at_five_in_a_row_or_half_of_ten(how: str, opens: bool) -> None:  # noqa: FBT001
    assert isinstance(judge(Closed(), ends(how)), Trip) is opens


def test_attempts_that_began_before_it_closed_do_not_count() -> None:
    assert judge(Closed(since=18), ends("-----")) is None
    assert judge(Closed(since=9), ends("-----")) == Trip("5 failures in a row", 5, 5)


def test_half_open_one_failure_opens_it_and_three_successes_close_it() -> None:
    half = HalfOpen(since=5, reason="why")
    assert judge(half, ends("++")) is None
    assert judge(half, ends("+++")) == Mend("3 trials succeeded")
    assert judge(half, ends("++-")) == Trip("the trial failed", 1, 3)
    assert judge(HalfOpen(since=100, reason="why"), ends("-----")) is None


# What is decided.


def test_a_trip_is_decided_once_for_a_change() -> None:
    trip = TripCircuit(
        bot_id=ALPHA, since=1, reason="5 failures in a row", failures=5, attempts=5, for_s=300.0
    )
    bot(launched(), came_up()).when(trip).then(OPENED)
    bot(launched(), came_up(), OPENED).when(trip).then()
    bot(launched(), came_up(), OPENED, TRIED).when(trip).then()
    bot(launched(), came_up(), retired()).when(trip).then()


def test_it_is_tried_when_its_time_is_over_and_closed_when_the_trials_went_well() -> None:
    tried, mended = TryCircuit(bot_id=ALPHA, since=3), MendCircuit(bot_id=ALPHA, since=4, reason="ok")
    bot(launched(), came_up(), OPENED).when(tried).then()
    bot(launched(), came_up(), OPENED).when(tried, at=UNTIL).then(TRIED)
    bot(launched(), came_up(), OPENED, TRIED).when(tried, at=UNTIL).then()
    bot(launched(), came_up(), OPENED, TRIED).when(mended).then(CircuitClosed(bot_id=ALPHA, reason="ok"))
    bot(launched(), came_up(), OPENED).when(mended).then()


def test_a_failed_trial_opens_it_again_and_says_so() -> None:
    trip = TripCircuit(bot_id=ALPHA, since=4, reason="the trial failed", failures=1, attempts=1, for_s=300.0)
    (fact,) = bot(launched(), came_up(), OPENED, TRIED).when(trip).then_kinds(CircuitOpened)
    assert isinstance(fact, CircuitOpened)
    assert fact.trial


def test_a_person_opens_and_closes_it() -> None:
    bot(launched(), came_up()).when(OpenCircuit(bot_id=ALPHA, for_s=60.0, reason="repair")).then(
        CircuitOpened(bot_id=ALPHA, reason="repair", until=NOON + timedelta(seconds=60))
    )
    bot(launched(), came_up(), OPENED).when(OpenCircuit(bot_id=ALPHA, for_s=60.0)).then()
    bot(launched(), came_up(), OPENED).when(CloseCircuit(bot_id=ALPHA)).then(
        CircuitClosed(bot_id=ALPHA, reason="asked")
    )
    bot(launched(), came_up()).when(CloseCircuit(bot_id=ALPHA)).then()
    bot().when(OpenCircuit(bot_id=ALPHA)).then_rejected("bot_not_found")
    bot(launched(), retired()).when(OpenCircuit(bot_id=ALPHA)).then_rejected("bot_retired")


def test_a_restart_leaves_it_open_and_a_launch_begins_anew() -> None:
    past = bot(launched(), came_up(), OPENED, restarted(), came_up(generation=2))
    assert past.state.circuit.since == 3  # type: ignore[union-attr]
    anew = bot(launched(), came_up(), OPENED, launched(generation=2))
    assert anew.state.circuit == Closed(since=4)  # type: ignore[union-attr]


# What is outstanding, and who is given what.


def run(stage: Stage, number: int, *, ends_well: bool, bot_id: str = ALPHA) -> None:
    """A task is given to a bot, and ends."""
    task_id = f"t{number}"
    stage.tell(submitted(task_id), assigned(bot_id, task_id=task_id))
    token = stage.sequence
    end = completed(token, task_id=task_id, bot_id=bot_id)
    stage.tell(end if ends_well else failed(token, task_id=task_id, bot_id=bot_id))


def outstanding(stage: Stage) -> list[Any]:
    kinds = (TripCircuit, TryCircuit, MendCircuit)
    steps = reactions.passed(stage.scene, stage.moment)
    return [step.command for step in steps if isinstance(step, Decide) and isinstance(step.command, kinds)]


def opened(stage: Stage, bot_id: str = ALPHA) -> None:
    until = stage.utc + timedelta(seconds=300)
    stage.tell(CircuitOpened(bot_id=BotId(bot_id), reason="5 failures in a row", until=until))


def choose(stage: Stage, **wants: Any) -> str | None:
    choice = stage.scene.placement.choose(Asked(T1, wants_of(submitted(**wants))), lambda _: True)
    return None if choice is None else choice.bot_id


def test_five_failures_make_it_outstanding_at_once_and_stop_what_it_would_be_given() -> None:
    stage = Stage()
    stage.up("alpha")
    for number in range(4):
        run(stage, number, ends_well=False)
    assert (outstanding(stage), choose(stage)) == ([], "alpha")
    stage.tell(submitted("t4"), assigned(task_id="t4"))
    change = stage.tell(failed(stage.sequence, task_id="t4"))
    steps = [step for step in reactions.after(stage.scene, change, stage.moment) if isinstance(step, Decide)]
    assert [type(step.command) for step in steps] == [TripCircuit]
    assert choose(stage) is None
    assert outstanding(stage) == [steps[0].command]


def test_who_takes_over_names_the_same_step() -> None:
    keys = []
    for _ in range(2):
        stage = Stage()
        stage.up("alpha")
        for number in range(5):
            run(stage, number, ends_well=False)
        steps = reactions.passed(stage.scene, stage.moment)
        keys.append([key_of(step) for step in steps if isinstance(step, Decide)])
    assert keys[0] == keys[1] == [("TripCircuit", "alpha", "1")]


def test_a_standby_and_another_owner_open_nothing() -> None:
    stage = Stage()
    stage.up("alpha")
    for number in range(5):
        run(stage, number, ends_well=False)
    stage.board.own_partitions(frozenset())
    assert outstanding(stage) == []


def test_an_open_circuit_is_given_nothing_then_tried_with_one_task_at_a_time() -> None:
    stage = Stage()
    stage.up("alpha", BotSpec(engine="echo", slots=3))
    opened(stage)
    assert choose(stage) is None
    assert outstanding(stage) == []
    stage.later(300)
    stage.beat("alpha")
    [again] = outstanding(stage)
    assert isinstance(again, TryCircuit)
    stage.tell(TRIED)
    assert stage.board.free(ALPHA) == 1
    stage.tell(submitted("trial"), assigned(task_id="trial"))
    token = stage.sequence
    assert (stage.board.free(ALPHA), choose(stage)) == (0, None)
    stage.tell(completed(token, task_id="trial"))
    assert stage.board.free(ALPHA) == 1


def test_two_placements_at_the_same_instant_give_one_trial() -> None:
    stage = Stage()
    stage.up("alpha", BotSpec(engine="echo", slots=8))
    opened(stage)
    stage.tell(TRIED)
    for name in ("one", "two", "three"):
        stage.tell(submitted(name))
    steps = reactions.fill(stage.scene, {ALPHA}, stage.moment)
    assert len(steps) == 1
    assert reactions.fill(stage.scene, {ALPHA}, stage.moment) == []


def test_tasks_that_it_held_before_are_no_trials() -> None:
    stage = Stage()
    stage.up("alpha", BotSpec(engine="echo", slots=3))
    stage.tell(submitted("old"), assigned(task_id="old"))
    token = stage.sequence
    opened(stage)
    stage.tell(TRIED)
    assert stage.board.free(ALPHA) == 1
    stage.tell(failed(token, task_id="old"))
    assert outstanding(stage) == []


def test_only_the_owner_of_a_half_open_bot_tries_it() -> None:
    stage = Stage()
    stage.up("alpha")
    opened(stage)
    stage.tell(TRIED)
    home = stage.board.bots[ALPHA].partition
    stage.board.own_partitions(frozenset(range(128)) - {home})
    assert stage.board.free(ALPHA) == 0
    stage.board.own_partitions(frozenset({home}))
    assert stage.board.free(ALPHA) == 1


def test_a_trial_that_fails_opens_and_three_that_succeed_close() -> None:
    stage = Stage()
    stage.up("alpha")
    opened(stage)
    stage.tell(TRIED)
    run(stage, 1, ends_well=True)
    run(stage, 2, ends_well=False)
    [trip] = outstanding(stage)
    assert (trip.reason, stage.board.free(ALPHA)) == ("the trial failed", 0)
    opened(stage)
    stage.tell(TRIED)
    for number in (3, 4, 5):
        assert outstanding(stage) == []
        run(stage, number, ends_well=True)
    [mend] = outstanding(stage)
    assert isinstance(mend, MendCircuit)
    stage.tell(CircuitClosed(bot_id=ALPHA, reason=mend.reason))
    assert outstanding(stage) == []
    assert stage.board.free(ALPHA) == 3


@pytest.mark.parametrize("seed", range(20))
def test_however_tasks_end_a_half_open_bot_never_has_two_trials(seed: int) -> None:
    chance, stage = Random(seed), Stage()
    stage.up("alpha", BotSpec(engine="echo", slots=5))
    held: dict[str, int] = {}
    trials: set[str] = set()
    for number in range(150):
        name = f"t{number}"
        stage.tell(submitted(name))
        for step in reactions.fill(stage.scene, {ALPHA}, stage.moment):
            assert isinstance(step, Decide)
            task_id = step.command.key
            stage.tell(assigned(task_id=task_id, attempt=1))
            held[task_id] = stage.sequence
            state = stage.board.bot(ALPHA)
            if isinstance(state, Up) and isinstance(state.circuit, HalfOpen):
                trials.add(task_id)
        assert len(trials & set(held)) <= 1
        if held and chance.random() < 0.8:
            task_id = chance.choice(sorted(held))
            token = held.pop(task_id)
            well = chance.random() < 0.6
            stage.tell(
                completed(token, task_id=task_id)
                if well
                else failed(token, task_id=task_id, retry_at=NOON + timedelta(days=9))
            )
        for command in outstanding(stage):
            state = stage.board.bot(ALPHA)
            assert isinstance(state, Up)
            for fact in decide(state.circuit, command, stage.utc):
                stage.tell(fact)
                trials.clear()
        stage.later(chance.choice((1, 60)))
        stage.beat("alpha")
