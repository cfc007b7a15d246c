"""`hive logs`: what services and bots wrote, read from the data directory of this machine."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import click
import msgspec

from cli import screen
from cli.data_dir import DataDir
from cli.failure import Exit, Failure
from cli.session import Here, local

POLL_S: Final = 0.2
TAIL_BYTES: Final = 65_536
WORD_CHARS: Final = 200


class Line(msgspec.Struct, frozen=True):
    """A line of a service's JSON log; other lines are shown as they are."""

    at: str
    level: str
    message: str
    exception: str = ""


_lines = msgspec.json.Decoder(Line)


@click.command()
@local
@click.argument("name", metavar="[SERVICE|BOT]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="So many of the end."
)
def logs(here: Here, *, name: str | None, follow: bool, lines: int) -> None:
    """Show what services and bots wrote; without a name, all services."""
    files = _files(here.data, name)
    label = len(files) > 1
    with contextlib.ExitStack() as opened, contextlib.suppress(KeyboardInterrupt):  # how one stops looking
        tails = [opened.enter_context(contextlib.closing(Tail(file))) for file in files]
        for tail in tails:
            for text in tail.last(lines):
                _show(tail.name, text, label=label, as_json=here.as_json)
        while follow:
            time.sleep(POLL_S)
            for tail in tails:
                for text in tail.more():
                    _show(tail.name, text, label=label, as_json=here.as_json)


class Tail:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self._file: IO[str] = path.open(errors="replace")
        self._half = ""

    def close(self) -> None:
        """Look no more."""
        self._file.close()

    def last(self, count: int) -> list[str]:
        """The last lines that are there now."""
        return list(deque(self.more(), maxlen=count))

    def more(self) -> Iterator[str]:
        """The lines written since; from the beginning if it was begun anew."""
        if self._path.exists() and self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._file.close()
            self._file = self._path.open(errors="replace")
        for text in self._file:
            self._half += text
            if self._half.endswith("\n"):
                yield self._half.rstrip("\n")
                self._half = ""


def _files(data: DataDir, name: str | None) -> list[Path]:
    there = sorted(data.logs.glob("*.log"))
    if name is None and there:
        return there
    named = data.log_of(name or "")
    bot = data.bot_log(name or "")
    for file in (named, bot):
        if name and file.exists():
            return [file]
    known = ", ".join(file.stem for file in there)
    raise Failure(
        f"There is no log of {name}." if name else "There are no logs.",
        exit_code=Exit.NOT_FOUND,
        code="log_not_found",
        why=f"{data.logs} holds {known or 'nothing'}.",
        todo="`hive logs NAME` with one of these, or a bot of `hive bots`.",
    )


def _show(name: str, text: str, *, label: bool, as_json: bool) -> None:
    if as_json:
        screen.line({"log": name, "line": text})
        return
    head = f"{click.style(name.ljust(12), fg='cyan')} " if label else ""
    click.echo(f"{head}{screen.safe(_told(text))}")


def _told(text: str) -> str:
    try:
        line = _lines.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text
    told = f"{line.at} {line.level.upper():<8} {line.message}"
    return f"{told}\n{line.exception}" if line.exception else told


def last_word(path: Path) -> str:
    """The last message in a log, shortened: what a process said before it ended."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
        text = lines[-1].decode(errors="replace")
    except (OSError, IndexError):
        return ""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        text = _lines.decode(text).message
    return screen.safe(text)[:WORD_CHARS]
