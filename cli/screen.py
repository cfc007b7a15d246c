"""What is shown: documents for programs, tables for people, and nothing that could steer a terminal."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, TypeVar

import click
import msgspec

from cli import grid

T = TypeVar("T")

CELL_CHARS_MAX: Final = 60
GAP: Final = " " * grid.GAP
_COLOURS: Final[dict[str, str]] = {
    **dict.fromkeys(("completed", "idle", "ready", "ok", "committed", "read", "heard"), "green"),
    **dict.fromkeys(("running", "busy", "assigned", "starting", "delivered"), "cyan"),
    **dict.fromkeys(
        ("waiting", "queued", "retrying", "draining", "restarting", "warn", "blocked", "silent", "pending"),
        "yellow",
    ),
    **dict.fromkeys(("failed", "expired", "broken", "dead", "fail"), "red"),
}


def document(value: object) -> None:
    """One JSON document, indented when a person may be reading."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    click.echo(msgspec.json.format(body, indent=2 if sys.stdout.isatty() else 0).decode())


def line(value: object) -> None:
    """One JSON document on one line: for streams."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    click.echo(msgspec.json.format(body, indent=-1).decode())


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, spare: Sequence[str] = ()
) -> None:
    """Rows under headings: fitted to a terminal (`grid.fit`), else in full, so that they can be searched."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty, err=True)
        return
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
        for row in [[column.upper() for column in columns], *cells]:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    fitted = grid.fit(columns, cells, shutil.get_terminal_size().columns, spare)
    heading = [grid.padded(columns[index], width) for index, width in fitted]
    click.echo(click.style(GAP.join(heading).rstrip(), dim=True))
    for row in cells:
        shown = [coloured(row[index], grid.padded(row[index], width)) for index, width in fitted]
        click.echo(GAP.join(shown).rstrip())


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """One thing, a line for each of its fields that has a value."""
    told = [(name, one_line(value, limit=None)) for name, value in pairs if value not in (None, "", ())]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {coloured(value)}")


def coloured(word: str, shown: str | None = None) -> str:
    """A state in its colour."""
    told = word if shown is None else shown
    return click.style(told, fg=_COLOURS[word]) if word in _COLOURS else told


def safe(text: str) -> str:
    """A text without what could steer a terminal: control characters, except line ends and tabs."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def one_line(value: object, limit: int | None = CELL_CHARS_MAX) -> str:
    """A cell: one line, not too long on a terminal."""
    text = safe(words(value)).replace("\n", "⏎").replace("\t", " ")
    if limit is not None and len(text) > limit and sys.stdout.isatty():
        return f"{text[: limit - 1]}…"
    return text


def first_line(text: str) -> str:
    """The first line that says something, with a mark if there is more; short enough for a table."""
    head, _, rest = text.strip().partition("\n")
    if len(head) > CELL_CHARS_MAX:
        return f"{head[: CELL_CHARS_MAX - 1]}…"
    return f"{head} …" if rest else head


def words(value: object) -> str:
    """A value as people write it."""
    match value:
        case None:
            return ""
        case datetime():
            return _moment(value)
        case float():
            return f"{value:.3g}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004
        case list() | tuple():
            return ", ".join(words(item) for item in value)
        case _:
            return str(value)


def _moment(at: datetime) -> str:
    try:
        return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:  # the last hours of the year 9999 have no time of day everywhere
        return at.isoformat(sep=" ")


def duration(seconds: float | None) -> str:
    """`8 ms`, `1.4 s`, `3 min`, `2.5 h`, `4 days`."""
    if seconds is None:
        return ""
    steps = ((1, 1000, "ms"), (60, 1, "s"), (3600, 1 / 60, "min"), (86_400, 1 / 3600, "h"))
    for below, factor, unit in steps:
        if seconds < below:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"


def size(count: float | None) -> str:
    """`512 B`, `1.5 MB`."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def text(body: str) -> None:
    """What a task printed: as it is into a pipe, harmless on a terminal."""
    shown = safe(body) if sys.stdout.isatty() else body
    click.echo(shown, nl=not shown.endswith("\n"))


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; the function given adds to it. Silent where no terminal is."""
    if quiet or not sys.stderr.isatty() or plain_terminal():
        yield lambda _count: None
        return
    from cli import progress as bars  # noqa: PLC0415 - only a terminal needs it

    with bars.shown(label, total) as bar:
        yield bar.add


def plain_terminal() -> bool:
    """Whether the terminal can do nothing but print (TERM=dumb)."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("dumb"))
