"""Lengths of time, moments and choices, as people type them."""

import math
import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
FOR_EVER: Final = "for ever"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class Duration(click.ParamType[float]):
    """`60`, `60s`, `1.5h`, `500ms`, `2d`: seconds."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(value.strip().lower())
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no length of time: write 60s, 5m, 1.5h or 2d.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class WaitAlone(click.Command):
    """A command whose `--wait` may stand alone: what follows is its value only if it is a length of time."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a `--wait` that stands alone the value it means."""
        end = args.index("--") if "--" in args else len(args)
        plain: list[str] = []
        for place, arg in enumerate(args[:end]):
            alone = arg == "--wait" and not (place + 1 < end and is_duration(args[place + 1]))
            plain.append(f"--wait={FOR_EVER}" if alone else arg)
        return super().parse_args(ctx, plain + args[end:])


class Wait(click.ParamType[float]):
    """How long to wait: a length of time, or for ever."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        return math.inf if value == FOR_EVER else DURATION.convert(value, param, ctx)


def is_duration(text: str) -> bool:
    """Whether it reads as a length of time."""
    found = _DURATION.fullmatch(text.strip().lower())
    return found is not None and found[2] in _UNITS


def moment(text: str, now: datetime) -> datetime:
    """An RFC 3339 moment, or a length of time from now; a moment without a zone is refused."""
    if _DURATION.fullmatch(text.strip().lower()):
        return now + timedelta(seconds=DURATION.convert(text, None, None))
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither a moment such as 2026-01-31T18:00:00Z nor a length of time such as 2h."
        ) from error
    if at.tzinfo is None:
        raise click.BadParameter(f"{text!r} names no time zone: write {text}Z, or {text}+01:00.")
    return at


def one_of(words: type[StrEnum]) -> click.Choice[str]:
    """One of the words themselves, not of their names in Python."""
    return click.Choice([word.value for word in words], case_sensitive=False)


DURATION: Final = Duration()
WAIT: Final = Wait()
