"""The lists, as rows in a real SQLite file."""

import sqlite3
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.tables import SCHEMA, Rows, history_page, select_history, select_tasks, tasks_page
from shared.contracts.orchestrator.facts import TaskCancelled
from shared.contracts.orchestrator.queries import GetBotHistory, ListTasks, TaskDoc
from shared.contracts.words import (
    BROKER_PAYLOAD_BYTES_MAX,
    CONTENT_CHARS_MAX,
    BotId,
    Page,
    Priority,
    TaskId,
    TaskType,
)
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded
from tests.services.orchestrator.builders import ALPHA, T1, assigned, commit, failed, started, submitted
from tests.services.orchestrator.test_projection import completed


class File:
    """A view's file, without the runtime around it."""

    def __init__(self, remembered_max: int = 100) -> None:
        self.rows = Rows(remembered_max)
        self.db = sqlite3.connect(":memory:")
        weakref.finalize(self, self.db.close)
        for statement in SCHEMA:
            self.db.execute(statement)

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.db.execute(sql, values).fetchall()

    def take(self, *batch: Recorded[Any]) -> None:
        for sql, values in self.rows(batch, self.read):
            self.db.executemany(sql, values)

    def tasks(self, **filters: Any) -> Page[TaskDoc]:
        query = ListTasks(**filters)
        sql, values = select_tasks(query)
        return tasks_page([(row[0], row[1]) for row in self.read(sql, values)], query.limit)

    def ids(self, **filters: Any) -> list[str]:
        return [doc.id for doc in self.tasks(**filters).items]

    def history(self, **filters: Any) -> list[tuple[str, str, str | None]]:
        query = GetBotHistory(bot_id=ALPHA, **filters)
        sql, values = select_history(query)
        page = history_page([(row[0], row[1]) for row in self.read(sql, values)], query.limit)
        return [(entry.task_id, entry.attempt.end, entry.output_text) for entry in page.items]


@pytest.fixture
def file() -> Iterator[File]:
    file = File()
    yield file
    file.db.close()


def test_tasks_are_listed_newest_first_and_filtered(file: File) -> None:
    file.take(
        commit(1, submitted("t1"), assigned(task_id="t1")),
        commit(2, submitted("t2", type=TaskType.TESTING)),
        commit(3, submitted("t3", priority=Priority.P0)),
        commit(4, TaskCancelled(task_id=TaskId("t2"), reason="asked")),
    )
    assert file.ids() == ["t3", "t2", "t1"]
    assert file.ids(state="queued") == ["t3"]
    assert file.ids(state="cancelled", type=TaskType.TESTING) == ["t2"]
    assert file.ids(priority=Priority.P0) == ["t3"]
    assert file.ids(bot=ALPHA) == ["t1"]
    assert file.ids(bot=BotId("nobody")) == []


def test_a_task_keeps_its_place_when_it_changes(file: File) -> None:
    file.take(commit(1, submitted("t1")), commit(2, submitted("t2")))
    file.take(commit(3, assigned(task_id="t1")))
    assert file.ids() == ["t2", "t1"]
    assert [(doc.state, doc.version) for doc in file.tasks().items] == [("queued", 2), ("assigned", 3)]


def test_pages_follow_one_another_without_gap_or_repetition(file: File) -> None:
    file.take(*(commit(n, submitted(f"t{n}")) for n in range(1, 8)))
    cursor, seen = None, []
    while True:
        page = file.tasks(limit=3, cursor=cursor)
        seen += [doc.id for doc in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        file.take(
            commit(100 + len(seen), submitted(f"newer{len(seen)}"))
        )  # newer ones do not shift the pages
    assert seen == [f"t{n}" for n in range(7, 0, -1)]


@pytest.mark.parametrize(
    "query", [{"cursor": "x"}, {"cursor": "-1"}, {"cursor": "9" * 30}, {"limit": 0}, {"limit": 201}]
)
def test_a_question_out_of_range_is_refused(file: File, query: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        file.tasks(**query)


def test_every_attempt_of_a_bot_stands_in_its_history_newest_first(file: File) -> None:
    file.take(commit(1, submitted(T1), assigned()), commit(2, started(1)), commit(3, failed(1)))
    file.take(commit(4, assigned(attempt=2)), commit(5, completed(4, 2)))
    file.take(commit(6, submitted("t2"), assigned(task_id="t2")))
    assert file.history() == [("t2", "running", None), (T1, "completed", "ok"), (T1, "failed", "")]
    assert file.history(limit=1) == [("t2", "running", None)]
    assert file.history(cursor="6", limit=1) == [(T1, "completed", "ok")]


PAST = [
    commit(1, submitted(T1), assigned()),
    commit(2, submitted("t2")),
    commit(3, failed(1)),
    commit(4, assigned(attempt=2)),
    commit(5, assigned(task_id="t2")),
    commit(6, completed(4, 2)),
]


@given(st.lists(st.integers(0, len(PAST)), max_size=6), st.integers(0, 2))
def test_however_the_log_is_cut_into_batches_and_repeated_the_rows_are_the_same(
    cuts: list[int], remembered: int
) -> None:
    whole, parts = File(), File(remembered_max=remembered)
    whole.take(*PAST)
    for cut in sorted(cuts):
        parts.take(*PAST[:cut])
    parts.take(*PAST)
    for table in ("tasks", "attempts"):
        assert parts.read(f"SELECT * FROM {table}") == whole.read(f"SELECT * FROM {table}")
    whole.db.close()
    parts.db.close()


@pytest.mark.parametrize(
    "filters",
    [{}, {"state": "queued"}, {"type": TaskType.CODE}, {"priority": Priority.P2}, {"bot": ALPHA}],
)
def test_every_list_is_answered_from_an_index(file: File, filters: dict[str, Any]) -> None:
    sql, values = select_tasks(ListTasks(**filters))
    plan = " ".join(str(row[3]) for row in file.read(f"EXPLAIN QUERY PLAN {sql}", values))
    assert ("USING INDEX" if filters else "PRIMARY KEY (rowid<?)") in plan
    assert "TEMP B-TREE" not in plan
    sql, values = select_history(GetBotHistory(bot_id=ALPHA))
    plan = " ".join(str(row[3]) for row in file.read(f"EXPLAIN QUERY PLAN {sql}", values))
    assert "USING PRIMARY KEY" in plan


def test_a_page_of_long_tasks_ends_where_one_answer_ends(file: File) -> None:
    long = "\N{HONEYBEE}" * CONTENT_CHARS_MAX
    file.take(*(commit(n, submitted(f"t{n:03}", content=long)) for n in range(1, 121)))

    page = file.tasks(limit=120)
    pages = [page]
    while page.next_cursor is not None:
        page = file.tasks(limit=120, cursor=page.next_cursor)
        pages.append(page)

    assert len(pages) > 1
    assert all(len(encode(each)) <= BROKER_PAYLOAD_BYTES_MAX for each in pages)
    assert [doc.id for each in pages for doc in each.items] == [f"t{n:03}" for n in range(120, 0, -1)]
