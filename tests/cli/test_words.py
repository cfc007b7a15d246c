"""How people type and read lengths of time, sizes, texts."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from cli import screen
from cli.words import DURATION, moment

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("60s", 60), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), ("500ms", 0.5), (" 5 min ", 300)],
)
def test_a_length_of_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 years", "-3s", "1h30"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


def test_a_moment_is_absolute_or_from_now() -> None:
    assert moment("2h", NOON) == NOON + timedelta(hours=2)
    assert moment("2026-01-31T12:00:00Z", NOON) == NOON
    for text in ("tomorrow", "2026-01-31T12:00:00"):
        with pytest.raises(click.BadParameter):
            moment(text, NOON)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (90, "1.5 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_a_length_of_time_is_told_in_its_unit(seconds: float | None, text: str) -> None:
    assert screen.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, ""), (512, "512 B"), (1_500_000, "1.5 MB"), (4e12, "4 TB"), (4e15, "4e+03 TB")]
)
def test_a_size_is_told_in_its_unit(count: float | None, text: str) -> None:
    assert screen.size(count) == text


def test_what_a_bot_printed_cannot_steer_the_terminal() -> None:
    assert screen.safe("\x1b[31mred\x07\x9b2J\n\tline") == "[31mred2J\n\tline"
    assert screen.one_line("two\nlines") == "two⏎lines"
