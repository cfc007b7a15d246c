"""How much of an output is kept, and how it is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.output import Live, Written, beginning, cut, limited
from shared.contracts.orchestrator.facts import Output
from shared.contracts.orchestrator.protocol import Assignment, Chunk
from shared.contracts.words import INLINE_BYTES_MAX, OUTPUT_BYTES_MAX, TaskId, TaskType

TASK = Assignment(
    task_id=TaskId("t"), token=7, attempt=1, type=TaskType.OTHER, content="", timeout_s=1, chain="c"
)


@given(st.text(), st.integers(min_value=0, max_value=100))
def test_a_cut_text_fits_and_is_a_beginning(text: str, bytes_max: int) -> None:
    kept, size_bytes, was_cut = cut(text, bytes_max)

    assert len(kept.encode()) == size_bytes <= bytes_max
    assert text.startswith(kept)
    assert was_cut == (kept != text)


def test_what_an_engine_says_beyond_the_limit_is_cut_in_its_own_output_too() -> None:
    output = limited(Output(text="x" * (OUTPUT_BYTES_MAX + 1), size_bytes=5, exit_code=3))

    assert output.truncated
    assert output.size_bytes == OUTPUT_BYTES_MAX
    assert output.exit_code == 3


def test_a_report_holds_the_beginning() -> None:
    assert len(beginning(Output(text="ü" * INLINE_BYTES_MAX)).text.encode()) == INLINE_BYTES_MAX


def test_progress_stays_between_nothing_and_all() -> None:
    written = Written(lambda *_: None)

    written.progress(7.0)
    assert written.share == 1.0
    written.progress(-1.0)
    assert written.share == 0.0


@pytest.mark.parametrize(
    ("pieces", "chunks"),
    [
        ([("a", "out"), ("b", "out")], [(0, "out", "ab")]),
        ([("a", "out"), ("b", "err"), ("c", "out")], [(0, "out", "a"), (1, "err", "b"), (2, "out", "c")]),
        ([("x" * 65_537, "out")], [(0, "out", "x" * 65_536), (1, "out", "x")]),
        ([], []),
    ],
)
async def test_neighbours_of_one_channel_are_shown_as_one_chunk(
    pieces: list[tuple[str, str]], chunks: list[tuple[int, str, str]]
) -> None:
    shown: list[Chunk] = []

    async def publish(chunk: Chunk) -> None:
        shown.append(chunk)

    live = Live(TASK, publish)
    for text, channel in pieces:
        live.show(text, channel)
    await live._flush()

    assert chunks == [(chunk.index, chunk.channel, chunk.text) for chunk in shown]


async def test_what_ends_before_anything_was_shown_is_told_by_its_report_alone() -> None:
    shown: list[Chunk] = []

    async def publish(chunk: Chunk) -> None:
        shown.append(chunk)

    quick, slow = Live(TASK, publish), Live(TASK, publish)
    quick.show("at once", "out")
    await quick.finish(told_by_report=True)
    assert [] == shown

    slow.show("first, ", "out")
    await slow._flush()
    slow.show("then the rest", "out")
    await slow.finish(told_by_report=True)
    assert ["first, ", "then the rest"] == [chunk.text for chunk in shown]
