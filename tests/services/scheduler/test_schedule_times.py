"""When schedules are due: the clocks that change, leap days, ends of months, and what cannot be read."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies

from services.scheduler.expression import parse
from services.scheduler.timetable import due_after, due_between
from shared.kernel.errors import Rejected

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def due(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next due times, as that place's clocks show them, after a time of these clocks."""
    place = ZoneInfo(zone)
    since = datetime.fromisoformat(after).replace(tzinfo=place).astimezone(UTC)
    times = islice(due_after(parse(expression, zone), ANCHOR, since), count)
    return [f"{at.astimezone(place):%Y-%m-%d %H:%M:%S%z}" for at in times]


def refused(expression: str, zone: str = "UTC") -> str:
    with pytest.raises(Rejected) as rejected:
        parse(expression, zone)
    return rejected.value.detail


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_that_does_not_exist_is_due_at_the_first_instant_after(expression: str) -> None:
    assert ["2026-03-28 02:30:00+0100", "2026-03-29 03:00:00+0200", "2026-03-30 02:30:00+0200"] == due(
        expression, "Europe/Zurich", "2026-03-28 00:00", 3
    )
    assert ["2026-03-08 03:00:00-0400", "2026-03-09 02:30:00-0400"] == due(
        expression, "America/New_York", "2026-03-08 00:00", 2
    )


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_that_exists_twice_is_due_once(expression: str) -> None:
    assert ["2026-10-25 02:30:00+0200", "2026-10-26 02:30:00+0100"] == due(
        expression, "Europe/Zurich", "2026-10-25 00:00", 2
    )
    assert ["2026-11-01 01:30:00-0400", "2026-11-02 01:30:00-0500"] == due(
        expression.replace("2", "1"), "America/New_York", "2026-11-01 00:00", 2
    )


def test_after_the_first_of_two_the_second_is_not_due() -> None:
    between = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo("Europe/Zurich"))
    following = next(due_after(parse("30 2 * * *", "Europe/Zurich"), ANCHOR, between.astimezone(UTC)))
    assert datetime(2026, 10, 26, 1, 30, tzinfo=UTC) == following


def test_what_is_due_every_hour_follows_the_time_that_passes() -> None:
    since = datetime(2026, 10, 24, 22, tzinfo=UTC)
    times = list(islice(due_after(parse("0 * * * *", "Europe/Zurich"), ANCHOR, since), 5))
    assert [since + timedelta(hours=number) for number in range(1, 6)] == times


def test_an_hour_that_does_not_exist_is_not_due_twice() -> None:
    assert ["2026-03-29 01:00:00+0100", "2026-03-29 03:00:00+0200", "2026-03-29 04:00:00+0200"] == due(
        "0 1-4 * * *", "Europe/Zurich", "2026-03-29 00:00", 3
    )


def test_where_the_clocks_change_by_half_an_hour() -> None:
    assert ["2026-10-04 02:30:00+1100", "2026-10-05 02:15:00+1100"] == due(
        "15 2 * * *", "Australia/Lord_Howe", "2026-10-04 00:00", 2
    )
    assert ["2026-04-05 01:45:00+1100", "2026-04-06 01:45:00+1030"] == due(
        "45 1 * * *", "Australia/Lord_Howe", "2026-04-05 00:00", 2
    )
    assert ["2026-05-01 09:00:00+0530"] == due("0 9 * * *", "Asia/Kolkata", "2026-05-01 00:00", 1)


def test_where_the_gap_is_at_midnight() -> None:
    assert ["2026-04-24 01:00:00+0300", "2026-04-25 00:00:00+0300"] == due(
        "0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", 2
    )


def test_leap_days_and_ends_of_months() -> None:
    assert ["2028-02-29 00:00:00+0000", "2032-02-29 00:00:00+0000"] == due(
        "0 0 29 2 *", "UTC", "2026-01-01", 2
    )
    assert ["2026-01-31", "2026-02-28", "2026-03-31"] == [
        at[:10] for at in due("0 0 L * *", "UTC", "2026-01-01", 3)
    ]
    assert ["2026-01-31", "2026-03-31", "2026-05-31"] == [
        at[:10] for at in due("0 0 31 * *", "UTC", "2026-01-01", 3)
    ]


def test_six_fields_begin_with_the_second() -> None:
    assert ["2026-01-01 00:00:15+0000", "2026-01-01 00:00:45+0000", "2026-01-01 00:01:15+0000"] == due(
        "15,45 * * * * *", "UTC", "2026-01-01 00:00", 3
    )


def test_every_counts_from_its_beginning_and_at_is_due_once() -> None:
    assert ["2026-01-02 00:01:30+0000", "2026-01-02 00:03:00+0000"] == due(
        "@every 90s", "UTC", "2026-01-02 00:00", 2
    )
    assert ["2026-05-01 03:00:00+0200"] == due(
        "@at 2026-05-01T01:00:00Z", "Europe/Zurich", "2026-01-01 00:00", 2
    )
    assert ["2026-05-01 03:00:00+0200"] == due(
        "@at 2026-05-01T03:00:00", "Europe/Zurich", "2026-01-01 00:00", 2
    )
    assert ["2026-01-01 01:00:00+0000"] == due("@hourly", "UTC", "2026-01-01 00:00", 1)


def test_what_cannot_be_read_says_where_and_what_would_do() -> None:
    assert "position 3: '25' is no hour: 0 to 23" in refused("0 25 * * *")
    assert "position 11: '9' is no day of the week: 0 to 7" in refused("0  0 * *  9")
    assert "position 1: '61' is no second" in refused("61 * * * * *")
    assert "3 fields; it takes five" in refused("* * *")
    assert "position 8: '90' is no duration: write 90s" in refused("@every 90")
    assert "is not between 1 second and 366 days" in refused("@every 0s")
    assert "'@dayly' is none of @hourly, @daily" in refused("@dayly")
    assert "is no time: write it as 2030-01-31T03:00:00Z" in refused("@at tomorrow")
    assert "is never due" in refused("0 0 31 2 *")


def test_an_unknown_time_zone_names_the_nearest() -> None:
    assert "Europe/Zurich" in refused("0 0 * * *", "europe/zurich")
    assert "Europe/Zurich" in refused("0 0 * * *", "Zurich")
    assert "Europe/Zurich" in refused("0 0 * * *", "Europe/Zuerich")
    assert "such as Europe/Zurich" in refused("0 0 * * *", "???")


@given(
    expression=strategies.sampled_from(
        [
            "*/7 * * * *",
            "30 2 * * *",
            "0 */3 * * *",
            "15,45 1-3 * * *",
            "* 5 2 * * *",
            "@every 1111s",
            "0 0 L * *",
        ]
    ),
    zone=strategies.sampled_from(["Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    seconds=strategies.integers(0, 365 * 86_400),
    later=strategies.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_wherever_one_begins_to_look_the_due_times_are_the_same(
    expression: str, zone: str, seconds: int, later: timedelta
) -> None:
    timetable, since = parse(expression, zone), ANCHOR + timedelta(seconds=seconds)
    whole: list[datetime] = []
    for at in due_after(timetable, ANCHOR, since):
        if at > since + timedelta(days=5) or len(whole) == 200:
            break
        whole.append(at)
    assert sorted(set(whole)) == whole
    middle = since + later
    if whole and middle < whole[-1]:
        rest = [at for at in whole if at > middle]
        assert rest == list(islice(due_after(timetable, ANCHOR, middle), len(rest)))


def test_of_years_of_seconds_the_newest_are_found_at_once() -> None:
    upto = ANCHOR + timedelta(days=900)
    found = due_between(parse("* * * * * *", "UTC"), ANCHOR, ANCHOR, upto, most=100, counted_max=1_000)
    assert [upto - timedelta(seconds=99 - number) for number in range(100)] == found.newest
    assert (1_000, True, ANCHOR + timedelta(seconds=1)) == (found.older, found.more, found.first)


@given(
    strategies.one_of(
        strategies.text(max_size=40),
        strategies.text("0123456789*,-/L#WMONJAN ", max_size=30),
        strategies.text("0123456789dhms", max_size=30).map("@every {}".format),
        strategies.text("0123456789-:TZ+.", max_size=30).map("@at {}".format),
        strategies.lists(
            strategies.text("0123456789*,-/L#", min_size=1, max_size=6), min_size=5, max_size=6
        ).map(" ".join),
    ),
    strategies.sampled_from(["UTC", "Europe/Zurich"]),
)
def test_whatever_is_written_is_read_or_refused_in_words(expression: str, zone: str) -> None:
    refusals: list[Rejected] = []
    try:
        timetable = parse(expression, zone)
    except Rejected as rejected:
        refusals.append(rejected)
    if refusals:
        assert refusals[0].code == "bad_expression"
        assert refusals[0].detail.startswith("expression: ")
        return
    following = list(islice(due_after(timetable, ANCHOR, ANCHOR), 3))
    assert sorted(set(following)) == following
    assert all(at > ANCHOR for at in following)
