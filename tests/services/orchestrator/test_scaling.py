"""When a pool grows, shrinks or stays: the rules alone, and their promises."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.pool_commands import Idle
from services.orchestrator.scaling import Bounds, Down, Hold, Plan, Up, plan
from shared.contracts.orchestrator.pools import Readings
from shared.contracts.scaling import Scaling
from shared.contracts.words import BotId

RULES = Scaling()
OLD = Idle(BotId("coders-1"), 400.0)
YOUNG = Idle(BotId("coders-2"), 10.0)


def bounds(**changes: Any) -> Bounds:
    return Bounds(min=1, max=10, enabled=True, scaled_s_ago=None, bot_slots=3)._replace(**changes)


def readings(**changes: Any) -> Readings:
    fields: dict[str, Any] = {
        "size": 2,
        "queue": 0,
        "bots_up": 2,
        "slots": 6,
        "held": 0,
        "load": 0.0,
        "bot_load": 0.0,
        "cpu_share": 0.2,
        "memory_share": 0.3,
    }
    return Readings(**fields | changes)


def code(found: Plan) -> tuple[str, str]:
    return type(found).__name__, found.code


def test_five_waiting_tasks_let_a_pool_grow_and_four_do_not() -> None:
    assert code(plan(bounds(), readings(queue=5), (), RULES)) == ("Up", "queue")
    assert code(plan(bounds(), readings(queue=4), (), RULES)) == ("Hold", "enough")


def test_load_counts_only_when_the_bots_are_loaded_too() -> None:
    assert code(plan(bounds(), readings(load=0.71, bot_load=0.61), (), RULES)) == ("Up", "load")
    assert code(plan(bounds(), readings(load=0.71, bot_load=0.6), (), RULES)) == ("Hold", "enough")
    assert code(plan(bounds(), readings(load=0.7, bot_load=0.9), (), RULES)) == ("Hold", "enough")


def test_a_short_queue_of_long_tasks_lets_a_pool_grow() -> None:
    found = plan(bounds(), readings(queue=2, mean_run_s=200.0, clear_s=66.7), (), RULES)
    assert code(found) == ("Up", "time_to_clear")


def test_without_history_a_pool_doubles_and_with_it_grows_to_what_clears_the_queue_in_time() -> None:
    assert plan(bounds(), readings(queue=200), (), RULES)[0] == 4
    assert plan(bounds(), readings(queue=200, mean_run_s=5.4, clear_s=180.0), (), RULES)[0] == 6
    assert plan(bounds(), readings(queue=200, mean_run_s=60.0, clear_s=2000.0), (), RULES)[0] == 10
    assert plan(bounds(), readings(queue=5, mean_run_s=0.01, clear_s=0.01), (), RULES)[0] == 3


def test_a_full_pool_a_busy_host_and_a_silent_one_are_said() -> None:
    need = {"queue": 9}
    assert code(plan(bounds(max=2), readings(**need), (), RULES)) == ("Hold", "at_max")
    for told, why in (
        ({"memory_share": 0.86}, "host_memory"),
        ({"cpu_share": 0.91}, "host_cpu"),
        ({"host_heard": False}, "host_silent"),
        ({"cpu_share": None}, "cpu_unknown"),
    ):
        found = plan(bounds(), readings(**need, **told), (), RULES)
        assert code(found) == ("Hold", why)
        assert isinstance(found, Hold)
        assert found.against


def test_a_pool_whose_bots_cannot_run_launches_no_more_of_them() -> None:
    found = plan(bounds(), readings(queue=9, bots_up=0, broken=2), (), RULES)
    assert code(found) == ("Hold", "broken")
    assert code(plan(bounds(), readings(queue=9, bots_up=1, broken=1), (), RULES)) == ("Up", "queue")


def test_below_its_minimum_a_pool_grows_at_once_but_not_on_a_busy_host() -> None:
    asked = bounds(min=4, scaled_s_ago=0.0)
    assert plan(asked, readings(), (), RULES)[:2] == (4, "below_min")
    assert code(plan(asked, readings(cpu_share=1.0), (), RULES)) == ("Hold", "host_cpu")


def test_the_longest_idle_bot_goes_first_and_only_after_its_time() -> None:
    assert plan(bounds(), readings(), (OLD, YOUNG), RULES)[0] == ("coders-1",)
    assert code(plan(bounds(), readings(), (YOUNG,), RULES)) == ("Hold", "enough")
    assert code(plan(bounds(min=2), readings(), (OLD,), RULES)) == ("Hold", "enough")
    assert code(plan(bounds(), readings(load=0.31, held=2), (OLD,), RULES)) == ("Hold", "enough")
    assert code(plan(bounds(), readings(queue=1), (OLD,), RULES)) == ("Hold", "enough")


def test_pauses_are_kept_in_both_directions() -> None:
    assert code(plan(bounds(scaled_s_ago=29.9), readings(queue=9), (), RULES)) == ("Hold", "paused")
    assert code(plan(bounds(scaled_s_ago=30.0), readings(queue=9), (), RULES)) == ("Up", "queue")
    assert code(plan(bounds(scaled_s_ago=59.9), readings(), (OLD,), RULES)) == ("Hold", "paused")
    assert code(plan(bounds(scaled_s_ago=60.0), readings(), (OLD,), RULES)) == ("Down", "idle")


def test_whoever_is_idle_goes_at_once_when_people_want_fewer() -> None:
    found = plan(bounds(max=1, scaled_s_ago=0.0), readings(size=3), (OLD, YOUNG), RULES)
    assert found[:2] == (("coders-1", "coders-2"), "above_max")
    assert code(plan(bounds(max=1), readings(size=3), (), RULES)) == ("Hold", "all_busy")


def test_a_pool_that_is_switched_off_is_left_alone() -> None:
    assert code(plan(bounds(enabled=False), readings(queue=500), (OLD,), RULES)) == ("Hold", "disabled")


shares = st.floats(0, 1)


@given(
    size=st.integers(0, 30),
    queue=st.integers(0, 10_000),
    load=shares,
    cpu=shares,
    memory=shares,
    mean=st.none() | st.floats(0, 1e5),
    ago=st.none() | st.floats(0, 1_000),
    idle_s=st.lists(st.floats(0, 1_000), max_size=30),
    low=st.integers(1, 10),
    more=st.integers(0, 10),
)
def test_no_plan_breaks_a_bound_a_pause_or_a_limit_of_the_host(
    *,
    size: int,
    queue: int,
    load: float,
    cpu: float,
    memory: float,
    mean: float | None,
    ago: float | None,
    idle_s: list[float],
    low: int,
    more: int,
) -> None:
    asked = bounds(min=low, max=low + more, scaled_s_ago=ago)
    idle = tuple(Idle(BotId(f"coders-{n}"), each) for n, each in enumerate(sorted(idle_s)[::-1][:size]))
    slots = 3 * size
    clear = None if mean is None or not slots else queue * mean / slots
    now = readings(
        size=size,
        queue=queue,
        slots=slots,
        held=int(slots * load),
        load=load,
        bot_load=load,
        cpu_share=cpu,
        memory_share=memory,
        mean_run_s=mean,
        clear_s=clear,
    )
    match plan(asked, now, idle, RULES):
        case Up(to=to, code=why):
            assert size < to <= asked.max
            assert cpu <= RULES.cpu_max
            assert memory <= RULES.memory_max
            assert why == "below_min" or ago is None or ago >= RULES.up_pause_s
        case Down(bots=bots, code=why):
            assert size - len(bots) >= asked.min
            assert set(bots) <= {each.bot_id for each in idle}
            assert why == "above_max" or (
                len(bots) == 1
                and load <= RULES.load_down
                and idle[0].idle_s >= RULES.idle_s
                and (ago is None or ago >= RULES.down_pause_s)
            )
        case Hold():
            pass
