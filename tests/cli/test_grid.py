"""How a table is fitted to a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from cli import grid

UUID = "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"


def names(
    columns: list[str], rows: list[list[str]], width: int, spare: tuple[str, ...] = ()
) -> dict[str, int]:
    return {columns[index]: wide for index, wide in grid.fit(columns, rows, width, spare)}


def test_what_fits_is_shown_whole() -> None:
    assert names(["id", "text"], [[UUID, "y" * 42]], 80) == {"id": 36, "text": 42}


def test_a_column_without_a_value_is_left_out_but_never_the_first() -> None:
    assert names(["id", "pid", "state"], [["", "", "idle"]], 80) == {"id": 2, "state": 5}


def test_a_long_text_gives_way_and_what_names_a_row_stays_whole() -> None:
    assert names(["id", "state", "text"], [[UUID, "completed", "y" * 200]], 80) == {
        "id": 36,
        "state": 9,
        "text": 80 - 36 - 9 - 4,
    }


def test_of_two_long_texts_the_longer_gives_first() -> None:
    fitted = names(["id", "a", "b"], [["1", "x" * 30, "y" * 100]], 80)
    assert fitted == {"id": 2, "a": 30, "b": 44}
    assert names(["id", "a", "b"], [["1", "x" * 30, "y" * 100]], 50) == {"id": 2, "a": 22, "b": 22}


def test_what_matters_less_is_left_out_before_a_text_becomes_unreadable() -> None:
    row = [UUID, "completed", "alpha", "y" * 90]
    columns, spare = ["id", "state", "bot", "text"], ("bot", "state")
    assert names(columns, [row], 74, spare) == {"id": 36, "state": 9, "bot": 5, "text": 18}
    assert names(columns, [row], 70, spare) == {"id": 36, "state": 9, "text": 21}
    assert names(columns, [row], 60, spare) == {"id": 36, "text": 22}
    assert names(columns, [row], 50, spare) == {"id": 36, "text": 12}


def test_places_are_counted_as_a_terminal_does() -> None:
    assert [grid.cells(text) for text in ("abc", "日本", "e\u0301", "ü", "a\u200bb")] == [3, 4, 1, 1, 2]
    assert grid.cut("日本語", 5) == "日本…"
    assert grid.cut("日本語", 6) == "日本語"
    assert grid.padded("日", 4) == "日  "


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(50, 120),
)
def test_it_never_gets_wider_than_the_terminal_unless_the_shortest_does(
    rows: list[list[str]], width: int
) -> None:
    rows = [[row[0][:10], *row[1:]] for row in rows]
    columns = ["a", "b", "c", "d"]
    fitted = grid.fit(columns, rows, width, ("d", "c"))
    assert sum(wide for _, wide in fitted) + grid.GAP * (len(fitted) - 1) <= width
    for row in rows:
        for index, wide in fitted:
            assert grid.cells(grid.padded(row[index], wide)) == wide
            assert index != 0 or grid.padded(row[0], wide).startswith(row[0])
