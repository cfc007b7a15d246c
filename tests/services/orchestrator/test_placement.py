"""Which bot does a task, and why that one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.decider.bot_state import Up
from services.orchestrator.placement import Asked, refusal
from services.orchestrator.waiting import wants_of
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.words import BotId, Priority, TaskId, TaskType
from tests.services.orchestrator.builders import (
    ALPHA,
    BETA,
    T1,
    assigned,
    failed,
    launched,
    retired,
    silent,
    stop_requested,
    submitted,
)
from tests.services.orchestrator.scenes import Stage
from tests.support.scenario import NOON


def choose(stage: Stage, avoid: str | None = None, **wants: object) -> str | None:
    choice = stage.scene.placement.choose(
        Asked(T1, wants_of(submitted(**wants)), avoid=None if avoid is None else BotId(avoid)),
        lambda bot_id: stage.liveness.is_ready(bot_id, stage.mono),
    )
    return None if choice is None else choice.bot_id


def fill(stage: Stage) -> list[tuple[str, str]]:
    choices = stage.scene.placement.fill(
        set(stage.board.bots), lambda bot_id: stage.liveness.is_ready(bot_id, stage.mono), stage.utc, 60.0
    )
    return [(choice.task_id, choice.bot_id) for choice in choices]


def test_the_bot_with_the_most_free_slots_gets_it() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.up("beta")
    assert choose(stage) == "alpha"
    stage.tell(submitted("t2"), assigned(ALPHA, task_id="t2"))
    assert choose(stage) == "beta"


@pytest.mark.parametrize(
    ("wants", "chosen"),
    [
        ({"engine": "shell"}, "sh"),
        ({"pool": "gpu"}, "gpu"),
        ({"bot": "gpu"}, "gpu"),
        ({"type": TaskType.WRITING, "engine": "shell"}, None),
        ({"engine": "claude"}, None),
        ({"bot": "nobody"}, None),
        ({"bot": "gpu", "engine": "shell"}, None),
    ],
)
def test_what_a_task_requires_is_a_hard_requirement(wants: dict[str, object], chosen: str | None) -> None:
    stage = Stage()
    stage.up("sh", BotSpec(engine="shell", types=(TaskType.CODE,)))
    stage.up("gpu", BotSpec(engine="echo", pool="gpu"))
    assert choose(stage, **wants) == chosen


def test_a_bot_without_types_does_all() -> None:
    stage = Stage()
    stage.up("alpha")
    assert all(choose(stage, type=kind) == "alpha" for kind in TaskType)


def test_the_bot_of_the_last_failure_comes_last() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.up("beta", BotSpec(engine="echo", slots=1))
    assert choose(stage, avoid="alpha") == "beta"
    stage.tell(submitted("t2"), assigned(BETA, task_id="t2"))
    assert choose(stage, avoid="alpha") == "alpha"


def test_only_a_bot_that_is_up_and_heard_gets_work() -> None:
    stage = Stage()
    stage.tell(launched("starting"))
    stage.up("silent")
    stage.tell(silent("silent"))
    stage.up("stopping")
    stage.tell(stop_requested(bot_id="stopping"))
    stage.up("retired")
    stage.tell(retired(bot_id="retired"))
    assert choose(stage) is None
    stage.up("alpha")
    assert choose(stage) == "alpha"
    stage.later(4)
    assert choose(stage) is None
    stage.beat("alpha")
    assert choose(stage) == "alpha"


def test_the_decision_says_who_else_could_and_why_others_could_not() -> None:
    stage = Stage()
    for name in ("a", "b", "c", "d", "e", "f"):
        stage.up(name)
    stage.up("full", BotSpec(engine="echo", slots=1))
    stage.tell(submitted("t2"), assigned("full", task_id="t2"))
    stage.up("sh", BotSpec(engine="shell"))
    stage.tell(launched("starting"))
    choice = stage.scene.placement.choose(
        Asked(T1, wants_of(submitted(engine="echo"))), lambda bot_id: bot_id != "a"
    )
    assert choice is not None
    assert [each.bot_id for each in choice.decision.candidates] == ["b", "c", "d", "e", "f"]
    assert choice.decision.candidates_total == 5
    assert choice.decision.passed_over == {
        "other_engine": 1,
        "starting": 1,
        "no_free_slot": 1,
        "not_heard": 1,
    }


def test_free_slots_go_to_those_who_waited_in_order() -> None:
    stage = Stage()
    stage.tell(submitted("low", priority=Priority.P3))
    stage.tell(submitted("normal"))
    stage.tell(submitted("critical", priority=Priority.P0))
    stage.up("alpha", BotSpec(engine="echo", slots=2))
    assert fill(stage) == [("critical", "alpha"), ("normal", "alpha")]
    assert fill(stage) == []  # both slots are reserved


def test_a_slot_goes_to_the_first_whom_the_bot_can_serve() -> None:
    stage = Stage()
    stage.tell(submitted("shell", priority=Priority.P0, engine="shell"))
    stage.tell(submitted("echo", priority=Priority.P3, engine="echo"))
    stage.up("alpha")
    assert fill(stage) == [("echo", "alpha")]


def test_a_retry_goes_elsewhere_if_it_can() -> None:
    stage = Stage()
    stage.tell(submitted())
    stage.up("alpha")
    stage.up("beta", BotSpec(engine="echo", slots=1))
    stage.tell(assigned(ALPHA))
    stage.tell(failed(token=stage.sequence, retry_at=NOON))
    stage.board.due_retries(stage.utc)
    assert fill(stage) == [(T1, "beta")]


def test_a_new_task_gets_a_free_bot_at_once_unless_somebody_waits_for_that_bot() -> None:
    stage = Stage()
    stage.up("alpha")
    at_once = stage.scene.placement.at_once
    choice = at_once(Asked(TaskId("new"), wants_of(submitted())), lambda _: True)
    assert choice is not None
    assert stage.board.free(ALPHA) == 2
    stage.tell(submitted("waits"))
    newer = Asked(TaskId("newer"), wants_of(submitted(priority=Priority.P3)))
    assert at_once(newer, lambda _: True) is None
    assert stage.board.free(ALPHA) == 2


SPECS = st.builds(
    BotSpec,
    engine=st.sampled_from(["echo", "shell"]),
    pool=st.sampled_from(["default", "gpu"]),
    types=st.sampled_from([(), (TaskType.CODE,), (TaskType.TESTING, TaskType.CODE)]),
    slots=st.integers(1, 3),
)
TASKS = st.fixed_dictionaries(
    {
        "priority": st.sampled_from(Priority),
        "engine": st.sampled_from([None, "echo", "shell"]),
        "pool": st.sampled_from([None, "gpu"]),
        "bot": st.sampled_from([None, "bot0"]),
        "type": st.sampled_from([TaskType.CODE, TaskType.WRITING]),
    }
)


@given(st.lists(SPECS, max_size=5), st.lists(TASKS, max_size=20))
def test_filling_keeps_every_requirement_and_leaves_no_slot_that_somebody_waits_for(
    specs: list[BotSpec], tasks: list[dict[str, object]]
) -> None:
    stage = Stage()
    for number, spec in enumerate(specs):
        stage.up(f"bot{number}", spec)
    for number, wants in enumerate(tasks):
        stage.tell(submitted(f"t{number}", **wants))
    chosen = dict(fill(stage))

    given_to: dict[str, int] = {}
    for task_id, bot_id in chosen.items():
        wants = wants_of(submitted(task_id, **tasks[int(task_id[1:])]))
        bot = stage.board.bot(BotId(bot_id))
        assert isinstance(bot, Up)
        assert refusal(BotId(bot_id), bot, wants) is None
        given_to[bot_id] = given_to.get(bot_id, 0) + 1
    for number, spec in enumerate(specs):
        assert given_to.get(f"bot{number}", 0) <= spec.slots
        assert stage.board.free(BotId(f"bot{number}")) >= 0
    for number, task in enumerate(tasks):
        if f"t{number}" not in chosen:
            wants = wants_of(submitted(f"t{number}", **task))
            assert all(stage.board.free(bot_id) == 0 for bot_id in stage.scene.placement.capable(wants).bots)
