"""When a schedule is due, as instants in UTC.

Where the clocks change, an expression that fires in every hour follows the time that passes. One that names
hours follows the wall clock: a time that does not exist is due at the first instant after the gap, one that
exists twice is due the first time. No instant is due twice.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import NamedTuple, assert_never
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim


class Cron(msgspec.Struct, frozen=True):
    """Fields of cron in a time zone. `hourly`: it fires in every hour of the day."""

    fields: str
    zone: str
    hourly: bool


class Every(msgspec.Struct, frozen=True):
    """At a distance from when it began, again and again."""

    period: timedelta


class Once(msgspec.Struct, frozen=True):
    """At one instant."""

    at: datetime


Timetable = Cron | Every | Once


class Found(NamedTuple):
    """The newest due times of a span, oldest first, and how many came before them; `more`: or more."""

    newest: list[datetime]
    older: int
    first: datetime | None
    more: bool


def due_after(timetable: Timetable, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The due times after an instant. `anchor`: from when `@every` counts."""
    match timetable:
        case Once(at):
            if at > after:
                yield at
        case Every(period):
            number = max(1, (after - anchor) // period + 1)
            while True:
                yield anchor + number * period
                number += 1
        case Cron():
            yield from _cron(timetable, after)
        case _:
            assert_never(timetable)


def due_between(
    timetable: Timetable, anchor: datetime, after: datetime, upto: datetime, *, most: int, counted_max: int
) -> Found:
    """The newest `most` due times after one instant up to another; those before them are counted."""

    def due(since: datetime) -> Iterator[datetime]:
        return takewhile(lambda at: at <= upto, due_after(timetable, anchor, since))

    oldest = list(islice(due(after), most + 1))
    if len(oldest) <= most:
        return Found(oldest, 0, None, more=False)
    # The newest are sought from the end: years of seconds may lie between.
    span, newest = timedelta(seconds=most), deque[datetime](maxlen=most)
    while len(newest) < most:
        newest = deque(due(max(after, upto - span)), maxlen=most)
        span *= 2
    before = takewhile(lambda at: at < newest[0], due(after))
    older = sum(1 for _ in islice(before, counted_max + 1))
    return Found(list(newest), min(older, counted_max), oldest[0], more=older > counted_max)


def _cron(cron: Cron, after: datetime) -> Iterator[datetime]:
    zone = zone_of(cron.zone)
    here = after.astimezone(zone)
    last = after
    # Without a zone the library counts on the wall clock, with one it counts the time that passes.
    for found in CronSim(cron.fields, here if cron.hourly else here.replace(tzinfo=None, fold=0)):
        at = (found if cron.hourly else first_instant(found, zone)).astimezone(UTC)
        if at > last:
            yield at
            last = at


def first_instant(wall: datetime, zone: tzinfo) -> datetime:
    """When the wall clock shows this for the first time, or, if it never does, the first time after it."""
    at = wall.replace(tzinfo=zone, fold=0)
    if _exists(at):
        return at
    at = at.replace(second=0)
    while not _exists(at):
        at = (at.replace(tzinfo=None) + timedelta(minutes=1)).replace(tzinfo=zone)
    return at


def _exists(at: datetime) -> bool:
    return at.astimezone(UTC).astimezone(at.tzinfo).replace(tzinfo=None) == at.replace(tzinfo=None, fold=0)


def zone_of(name: str) -> tzinfo:
    """A time zone that is there."""
    return UTC if name == "UTC" else ZoneInfo(name)
