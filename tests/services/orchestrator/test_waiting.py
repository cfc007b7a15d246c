"""Who is next among those who wait."""

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.waiting import Place, WaitingLines, Wants, aged, place_of, wants_of
from shared.contracts.words import Priority, TaskId, TaskType
from tests.services.orchestrator.builders import submitted

AGEING_S = 60.0
WANTS = wants_of(submitted())


def first(lines: WaitingLines, now: float = 0.0, wants: Wants = WANTS) -> str | None:
    place = lines.first(wants, now, AGEING_S)
    return None if place is None else place.task_id


def test_higher_priority_goes_first_then_the_older() -> None:
    lines = WaitingLines()
    lines.add(submitted("low", priority=Priority.P3), 0.0)
    lines.add(submitted("normal-young"), 2.0)
    lines.add(submitted("normal-old"), 1.0)
    lines.add(submitted("critical", priority=Priority.P0), 3.0)

    order = []
    while (task_id := first(lines, 4.0)) is not None:
        order.append(task_id)
        lines.remove(TaskId(task_id))

    assert order == ["critical", "normal-old", "normal-young", "low"]


def test_waiting_lifts_a_task_by_one_priority_each_ageing_time() -> None:
    assert [aged(3, 0.0, now, AGEING_S) for now in (0, 59, 60, 120, 180, 9_999)] == [3, 3, 2, 1, 0, 0]


def test_a_low_task_that_waited_long_enough_goes_before_a_critical_one_that_just_came() -> None:
    lines = WaitingLines()
    lines.add(submitted("low", priority=Priority.P3), 0.0)
    lines.add(submitted("critical", priority=Priority.P0), 179.0)
    assert first(lines, 179.0) == "critical"
    assert first(lines, 180.0) == "low"


def test_tasks_that_want_the_same_wait_in_one_line() -> None:
    lines = WaitingLines()
    lines.add(submitted("a"), 0.0)
    lines.add(submitted("b", type=TaskType.TESTING), 0.0)
    assert len(lines.wanted()) == 2
    assert first(lines) == "a"
    assert first(lines, wants=wants_of(submitted(type=TaskType.TESTING))) == "b"
    lines.remove(TaskId("a"))
    assert lines.wanted() == [wants_of(submitted(type=TaskType.TESTING))]


def test_a_task_added_again_stands_in_line_once() -> None:
    lines = WaitingLines()
    lines.add(submitted("a"), 0.0)
    lines.remove(TaskId("a"))
    lines.add(submitted("a"), 0.0)
    lines.add(submitted("a"), 0.0)
    assert (len(lines), first(lines)) == (1, "a")
    lines.remove(TaskId("a"))
    assert (len(lines), first(lines)) == (0, None)


@given(
    st.lists(
        st.tuples(st.sampled_from(Priority), st.floats(0, 1000), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    st.floats(1000, 2000),
)
def test_the_lines_agree_with_sorting_everybody(
    waiting: list[tuple[Priority, float, bool]], now: float
) -> None:
    lines = WaitingLines()
    places: list[Place] = []
    for number, (priority, since, leaves) in enumerate(waiting):
        order = submitted(f"t{number}", priority=priority)
        lines.add(order, since)
        if leaves:
            lines.remove(order.task_id)
        else:
            places.append(place_of(order, since, now, AGEING_S))
    served = []
    while (place := lines.first(WANTS, now, AGEING_S)) is not None:
        served.append(place)
        lines.remove(place.task_id)
    assert served == sorted(places)


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 3)), min_size=1, max_size=60),
    st.sampled_from(Priority),
)
def test_no_task_starves(arrivals: list[tuple[Priority, int]], priority: Priority) -> None:
    """One bot serves one task a second while others keep coming; the bound is that of the docstring."""
    lines, served_at, ageing_s = WaitingLines(), None, 5.0
    now, number = 0.0, 0
    lines.add(submitted("patient", priority=priority), now)
    level = list(Priority).index(priority)
    older_or_within_span = 0
    while served_at is None:
        for kind, count in arrivals[int(now) : int(now) + 1] or [(Priority.P0, 1)]:
            for _ in range(count):
                number += 1
                lines.add(submitted(f"other-{number:05}", priority=kind), now)
                older_or_within_span += now < level * ageing_s or now == 0.0
        place = lines.first(WANTS, now, ageing_s)
        assert place is not None
        lines.remove(place.task_id)
        if place.task_id == "patient":
            served_at = now
        now += 1
    assert served_at <= level * ageing_s + older_or_within_span
