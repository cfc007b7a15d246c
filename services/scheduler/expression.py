"""Reads expressions: cron, `@every`, `@at`; and says where and why one cannot be read."""

import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Final
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError

from services.scheduler.timetable import Cron, Every, Once, Timetable, first_instant, zone_of
from shared.kernel.errors import Rejected

EVERY_MIN: Final = timedelta(seconds=1)
EVERY_MAX: Final = timedelta(days=366)
NEAREST_MAX: Final = 3
PARSED_MAX: Final = 20_000

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY_HOUR: Final = frozenset(range(24))
_SECOND: Final = ("second", "0 to 59")
_FIELDS: Final = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or L for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7, or SUN to SAT; 5L for the last Friday, 1#2 for the second Monday"),
)
_PIECE: Final = re.compile(r"(\d{1,7})([dhms])")
_UNIT: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse(expression: str, zone: str) -> Timetable:
    """Read an expression. Rejected: `bad_expression` with the position, `bad_timezone` with near names."""
    check_zone(zone)
    return _parse(expression, zone)


def check_zone(zone: str) -> None:
    """Rejected when there is no such time zone."""
    known = _zones()
    if zone not in known:
        by_lower = {name.lower(): name for name in known}
        near = [by_lower[name] for name in get_close_matches(zone.lower(), by_lower, NEAREST_MAX, 0.5)]
        cities = [name for name in sorted(known) if name.rpartition("/")[2].lower() == zone.lower()]
        nearest = list(dict.fromkeys([*cities, *near]))[:NEAREST_MAX]
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else "use a name such as Europe/Zurich"
        raise Rejected("bad_timezone", f"timezone: there is no {zone!r}; {hint}")


@lru_cache(maxsize=PARSED_MAX)
def _parse(expression: str, zone: str) -> Timetable:
    word, _, rest = expression.strip().partition(" ")
    match word.lower():
        case "@every":
            return Every(_period(expression, rest.strip()))
        case "@at":
            return Once(_instant(expression, rest.strip(), zone))
        case macro if macro in _MACROS and not rest.strip():
            return _cron_of(_MACROS[macro], zone)
        case other if other.startswith("@"):
            names = ", ".join([*_MACROS, "@every 90s", "@at 2030-01-31T03:00:00Z"])
            raise _bad(expression, word, f"is none of {names}")
        case _:
            return _cron_of(expression, zone)


def _cron_of(expression: str, zone: str) -> Cron:
    words = list(re.finditer(r"\S+", expression))
    names = (_SECOND, *_FIELDS) if len(words) == len(_FIELDS) + 1 else _FIELDS
    if len(words) != len(names):
        raise Rejected(
            "bad_expression",
            f"expression: {len(words)} fields; it takes five (minute hour day month weekday), "
            "or six (second before them)",
        )
    for place, (word, (name, allowed)) in enumerate(zip(words, names, strict=True)):
        alone = ["*"] * len(names)
        alone[place] = word.group()
        try:
            CronSim(" ".join(alone), datetime(2000, 1, 1))  # noqa: DTZ001 - only read, no time is meant
        except CronSimError as error:
            detail = f"is no {name}: {allowed}; *, lists (1,2), ranges (1-5) and steps (*/5) of them"
            raise _bad(expression, word.group(), detail, word.start()) from error
    fields = " ".join(word.group() for word in words)
    never = f"expression: {expression!r} is never due: no month has such a day"
    try:
        sim = CronSim(fields, datetime(2000, 1, 1))  # noqa: DTZ001 - the same
        next(sim)
    except (CronSimError, StopIteration) as error:
        raise Rejected("bad_expression", never) from error
    return Cron(fields, zone, frozenset(sim.hours) == _EVERY_HOUR)


def _period(expression: str, text: str) -> timedelta:
    pieces = _PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise _bad(expression, text, "is no duration: write 90s, 15m, 2h30m or 1d")
    period = timedelta(seconds=sum(int(number) * _UNIT[unit] for number, unit in pieces))
    if not EVERY_MIN <= period <= EVERY_MAX:
        raise _bad(expression, text, f"is not between 1 second and {EVERY_MAX.days} days")
    return period


def _instant(expression: str, text: str, zone: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.upper()).replace(microsecond=0)
        if at.tzinfo is None:
            at = first_instant(at, zone_of(zone))
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _bad(expression, text, "is no time: write it as 2030-01-31T03:00:00Z") from error


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _bad(expression: str, text: str, detail: str, start: int | None = None) -> Rejected:
    position = (expression.find(text) if start is None else start) + 1
    return Rejected("bad_expression", f"expression: at position {position}: {text!r} {detail}")
