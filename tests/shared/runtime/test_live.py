"""Live output: in order, with a word where some is missing."""

import pytest

from shared.kernel.codec import encode
from shared.runtime.follow import Arrived
from shared.runtime.live import Gap, Piece, Row, _Place


def chunk(sequence: int, index: int, token: int = 5) -> Arrived:
    return Arrived("subject", sequence, encode({"task_id": "t", "token": token, "index": index, "text": "x"}))


def words(row: Row, *chunks: Arrived) -> list[object]:
    told = [word for each in chunks for word in row.take(each)]
    return [word.sequence if isinstance(word, Piece) else word for word in told]


def test_chunks_in_a_row_are_pieces() -> None:
    assert words(Row(0), chunk(3, 0), chunk(4, 1), chunk(9, 2)) == [3, 4, 9]


def test_a_missing_chunk_is_a_gap_that_is_counted() -> None:
    assert words(Row(0), chunk(3, 0), chunk(9, 4)) == [3, Gap(after=3, before=9, missing=3), 9]


def test_a_beginning_that_is_gone_is_a_gap() -> None:
    assert words(Row(0), chunk(30, 12)) == [Gap(after=0, before=30, missing=12), 30]


def test_another_attempt_begins_to_count_anew() -> None:
    assert words(Row(0), chunk(3, 0), chunk(4, 0, token=8), chunk(5, 1, token=8)) == [3, 4, 5]


def test_a_reader_whose_last_chunk_is_gone_is_told_of_a_gap_of_unknown_size() -> None:
    assert words(Row(7), chunk(30, 12), chunk(31, 13)) == [Gap(after=7, before=30), 30, 31]


def test_a_reader_whose_last_chunk_is_there_goes_on_without_a_gap() -> None:
    row = Row(7)
    row.stand(_Place(token=5, index=11, text="x"))
    assert words(row, chunk(30, 12)) == [30]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"token": 5, "index": "1", "text": "x"}',
        b'{"token": 5, "index": 1, "text": 7}',
        b'{"token": 5, "index": 1}',
    ],
)
def test_what_is_no_chunk_is_passed_over(data: bytes) -> None:
    assert words(Row(0), chunk(3, 0), Arrived("subject", 4, data), chunk(5, 1)) == [3, 5]


def test_a_stream_begun_anew_is_read_from_its_beginning() -> None:
    row = Row(700)
    row.stand(_Place(token=5, index=11, text="x"))
    row.restart()
    assert row.seen == 0
    assert words(row, chunk(2, 15)) == [Gap(after=0, before=2, missing=3), 2]
