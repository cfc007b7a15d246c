"""Who is next among those who wait."""

from collections import Counter
from math import ceil
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.orchestrator.waiting import Place, WaitingLines, Wants, aged, wants_of
from shared.contracts.words import Priority, TaskId, TaskType
from tests.services.orchestrator.builders import submitted

AGEING_S = 60.0
WANTS = wants_of(submitted())
TESTS = wants_of(submitted(type=TaskType.TESTING))
KEYS = ("ann", "bob", "cy")


def first(lines: WaitingLines, now: float = 0.0, wants: Wants = WANTS) -> str | None:
    place = lines.first(wants, now, AGEING_S)
    return None if place is None else place.task_id


def served(lines: WaitingLines, now: float = 0.0, at_most: int = 1_000) -> list[str]:
    """Everybody in the order in which a single bot would get them."""
    order: list[str] = []
    while len(order) < at_most:
        places = [place for wants in lines.wanted() if (place := lines.first(wants, now, AGEING_S))]
        if not places:
            break
        best = min(places)
        order.append(best.task_id)
        lines.take(best.task_id)
    return order


def test_higher_priority_goes_first_then_the_older() -> None:
    lines = WaitingLines()
    lines.add(submitted("low", priority=Priority.P3), 0.0)
    lines.add(submitted("normal-young"), 2.0)
    lines.add(submitted("normal-old"), 1.0)
    lines.add(submitted("critical", priority=Priority.P0), 3.0)
    assert served(lines, 4.0) == ["critical", "normal-old", "normal-young", "low"]


def test_waiting_lifts_a_task_by_one_priority_each_ageing_time() -> None:
    assert [aged(3, 0.0, now, AGEING_S) for now in (0, 59, 60, 120, 180, 9_999)] == [3, 3, 2, 1, 0, 0]


def test_a_low_task_that_waited_long_enough_goes_before_a_critical_one_that_just_came() -> None:
    lines = WaitingLines()
    lines.add(submitted("low", priority=Priority.P3), 0.0)
    lines.add(submitted("critical", priority=Priority.P0), 179.0)
    assert first(lines, 179.0) == "critical"
    assert first(lines, 180.0) == "low"


def test_another_ageing_time_counts_from_now_on() -> None:
    lines = WaitingLines()
    lines.add(submitted("low", priority=Priority.P3), 0.0)
    lines.add(submitted("critical", priority=Priority.P0), 100.0)
    assert first(lines, 100.0) == "critical"
    place = lines.first(WANTS, 100.0, 10.0)
    assert place is not None
    assert place.task_id == "low"


def test_tasks_that_want_the_same_wait_in_one_line() -> None:
    lines = WaitingLines()
    lines.add(submitted("a"), 0.0)
    lines.add(submitted("b", type=TaskType.TESTING), 0.0)
    assert len(lines.wanted()) == 2
    assert first(lines) == "a"
    assert first(lines, wants=TESTS) == "b"
    lines.remove(TaskId("a"))
    assert lines.wanted() == [TESTS]


def test_a_task_added_again_stands_in_line_once() -> None:
    lines = WaitingLines()
    lines.add(submitted("a"), 0.0)
    lines.remove(TaskId("a"))
    lines.add(submitted("a"), 0.0)
    lines.add(submitted("a"), 0.0)
    assert (len(lines), first(lines)) == (1, "a")
    lines.remove(TaskId("a"))
    assert (len(lines), first(lines)) == (0, None)


def test_submitters_take_turns_whatever_one_of_them_has_queued() -> None:
    lines = WaitingLines()
    for number in range(1_000):
        lines.add(submitted(f"ann-{number:04}", submitter="ann"), 0.0)
    for number in range(3):
        lines.add(submitted(f"bob-{number}", submitter="bob"), 9.0)
    order = served(lines, 10.0, at_most=8)
    assert order == [
        "ann-0000",
        "bob-0",
        "ann-0001",
        "bob-1",
        "ann-0002",
        "bob-2",
        "ann-0003",
        "ann-0004",
    ]


def test_a_key_with_a_share_of_three_has_three_tasks_in_each_turn() -> None:
    lines = WaitingLines({"ann": 3})
    for number in range(6):
        lines.add(submitted(f"ann-{number}", submitter="ann"), 0.0)
        lines.add(submitted(f"bob-{number}", submitter="bob"), 0.0)
    turns = [task_id.partition("-")[0] for task_id in served(lines)]
    assert turns == ["ann"] * 3 + ["bob"] + ["ann"] * 3 + ["bob"] * 5


def test_turns_are_taken_between_different_requirements_that_one_bot_serves() -> None:
    lines = WaitingLines()
    for number in range(100):
        lines.add(submitted(f"ann-{number:03}", submitter="ann"), 0.0)
    lines.add(submitted("bob", submitter="bob", type=TaskType.TESTING), 5.0)
    assert served(lines, 6.0, at_most=2) == ["ann-000", "bob"]


def test_who_has_just_come_stands_behind_all_whose_turn_is_waited_for() -> None:
    lines = WaitingLines()
    lines.add(submitted("patient", submitter="patient"), 0.0)
    for number in range(50):
        lines.add(submitted(f"new-{number}", submitter=f"key-{number}"), -1.0)
    assert first(lines) == "patient"


def test_the_entries_of_those_who_wait_no_more_are_tidied() -> None:
    lines = WaitingLines()
    lines.add(submitted("patient", priority=Priority.P3), 0.0)
    for _ in range(5_000):
        lines.add(submitted("fickle", priority=Priority.P3), 1.0)
        lines.remove(TaskId("fickle"))
        assert first(lines, 2.0) == "patient"
    assert lines._lines[WANTS]._entries < 1_100
    assert len(lines._lines[WANTS]._lifts) < 1_100


class Lines(RuleBasedStateMachine):
    """Any comings and goings: who is next agrees with looking at everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = WaitingLines({"cy": 2})
        self.waiting: dict[TaskId, tuple[str, Wants, int, float]] = {}
        self.turns: dict[tuple[Wants, str], list[int]] = {}  # its number, and what is left of it
        self.count = 0
        self.now = 0.0
        self.number = 0

    def share(self, key: str) -> int:
        return 2 if key == "cy" else 1

    def begin(self, wants: Wants, key: str) -> None:
        self.count += 1
        self.turns[wants, key] = [self.count, self.share(key)]

    @rule(
        key=st.sampled_from(KEYS),
        priority=st.sampled_from(Priority),
        kind=st.sampled_from([TaskType.CODE, TaskType.TESTING]),
        waited=st.sampled_from([0.0, 30.0, 130.0]),
    )
    def come(self, key: str, priority: Priority, kind: TaskType, waited: float) -> None:
        self.number += 1
        order = submitted(f"t{self.number:04}", submitter=key, priority=priority, type=kind)
        wants = wants_of(order)
        if not any((each[1], each[0]) == (wants, key) for each in self.waiting.values()):
            self.begin(wants, key)
        self.lines.add(order, self.now - waited)
        level = list(Priority).index(priority)
        self.waiting[order.task_id] = (key, wants, level, self.now - waited)

    @rule(which=st.integers(0, 20))
    def leave(self, which: int) -> None:
        if self.waiting:
            task_id = sorted(self.waiting)[which % len(self.waiting)]
            self.lines.remove(task_id)
            del self.waiting[task_id]

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def serve(self) -> None:
        if self.waiting:
            place = min(self.expected())
            key, wants, _, _ = self.waiting.pop(place.task_id)
            self.lines.take(place.task_id)
            self.turns[wants, key][1] -= 1
            if self.turns[wants, key][1] == 0:
                self.begin(wants, key)

    def expected(self) -> list[Place]:
        return [
            Place(aged(level, since, self.now, AGEING_S), self.turns[wants, key][0], since, task_id)
            for task_id, (key, wants, level, since) in self.waiting.items()
        ]

    @invariant()
    def the_next_is_the_least_of_all(self) -> None:
        for wants in (WANTS, TESTS):
            mine = [place for place in self.expected() if self.waiting[place.task_id][1] == wants]
            assert self.lines.first(wants, self.now, AGEING_S) == (min(mine) if mine else None)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert len(self.lines) == len(self.waiting)
        assert set(self.lines.wanted()) == {each[1] for each in self.waiting.values()}


TestLines = Lines.TestCase


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=40),
    st.dictionaries(st.sampled_from(KEYS), st.integers(1, 4)),
    st.integers(0, 12),
)
def test_the_position_that_is_told_is_the_one_that_comes_true(
    arrivals: list[tuple[str, bool]], shares: dict[str, int], before: int
) -> None:
    lines = WaitingLines(shares)
    for number, (key, tests) in enumerate(arrivals):
        kind = TaskType.TESTING if tests else TaskType.CODE
        lines.add(submitted(f"t{number:02}", submitter=key, type=kind), float(number))
    served(lines, 40.0, at_most=before)
    told = {
        task_id: lines.position(task_id, 40.0, AGEING_S, lambda _: True) for task_id in list(lines._where)
    }
    assert {task_id: number for number, task_id in enumerate(served(lines, 40.0), start=1)} == told


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([*KEYS, "me"]), st.sampled_from(Priority)), max_size=4),
        min_size=1,
        max_size=60,
    ),
    st.dictionaries(st.sampled_from([*KEYS, "me"]), st.integers(1, 3)),
    st.sampled_from(Priority),
    st.integers(0, 5),
)
def test_no_task_starves(
    arrivals: list[list[tuple[str, Priority]]], shares: dict[str, int], priority: Priority, flood: int
) -> None:
    """One bot serves one task a second while others keep coming; the bound is that of the docstring."""
    lines, ageing_s, now, number = WaitingLines(shares), 5.0, 0.0, 0
    for _ in range(flood * 20):
        number += 1
        lines.add(submitted(f"flood-{number:05}", submitter="ann", priority=Priority.P0), -1.0)
    lines.add(submitted("patient", submitter="me", priority=priority), now)
    level = list(Priority).index(priority)
    since: dict[str, tuple[str, float]] = {}
    turns, meanwhile, served_at = 0, Counter[str](), None
    while served_at is None:
        for key, kind in arrivals[int(now)] if now < len(arrivals) else [("bob", Priority.P0)]:
            number += 1
            task_id = f"other-{number:05}"
            lines.add(submitted(task_id, submitter=key, priority=kind), now)
            since[task_id] = (key, now)
        if now == level * ageing_s:
            older = [
                each
                for each, (key, at) in since.items()
                if key == "me" and TaskId(each) in lines and (at, each) < (0.0, "patient")
            ]
            turns = ceil((len(older) + 1) / shares.get("me", 1))
        place = lines.first(WANTS, now, ageing_s)
        assert place is not None
        lines.take(place.task_id)
        if place.task_id == "patient":
            served_at = now
        elif now >= level * ageing_s:
            meanwhile[since.get(place.task_id, ("ann", 0.0))[0]] += 1
        now += 1
    if served_at >= level * ageing_s:
        for key, count in meanwhile.items():
            assert count <= turns * shares.get(key, 1), (key, count, turns)


@pytest.mark.parametrize("waiting", [1_000, 10_000])
def test_a_choice_among_many_is_quick(waiting: int) -> None:
    """The bound is loose: what is measured stands in docs/benchmarks.md."""
    lines = WaitingLines()
    for number in range(waiting):
        lines.add(submitted(f"t{number:05}", submitter=f"key-{number % 50}"), 0.0)
    lines.first(WANTS, 0.0, AGEING_S)
    began = perf_counter()
    assert len(served(lines, 61.0, at_most=waiting)) == waiting
    assert (perf_counter() - began) / waiting < 0.001
