"""A line on the terminal that says that it goes on; what is printed meanwhile stands above it."""

import contextlib
import io
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from cli import grid
from shared.runtime import clock

REDRAWN_EVERY_S: Final = 0.1
BAR_CHARS: Final = 24
TURNING: Final = "|/-\\"
ERASE: Final = "\r\x1b[2K"


class Bar:
    """The line. Drawn again by a thread of its own, so that a long request shows that it goes on."""

    def __init__(self, label: str, total: int | None, terminal: TextIO) -> None:
        self._label = label
        self._total = total
        self._terminal = terminal
        self._began = clock.monotonic()
        self._done = 0
        self._turns = 0
        self._free = True  # the cursor stands at the beginning of a line
        self._lock = threading.RLock()
        self._ended = threading.Event()

    def add(self, count: int) -> None:
        """So much more is done."""
        self._done += count

    def run(self) -> None:
        """Draw until the end."""
        while not self._ended.wait(REDRAWN_EVERY_S):
            self._draw()

    def end(self) -> None:
        """Take it away."""
        with self._lock:
            self._ended.set()
            self._erase()

    def above(self, file: TextIO, text: str) -> None:
        """Print something, then go on below it."""
        with self._lock:
            self._erase()
            file.write(text)
            file.flush()
            if text:
                self._free = text.endswith("\n")
        self._draw()

    def _erase(self) -> None:
        if self._free:
            self._terminal.write(ERASE)
            self._terminal.flush()

    def _draw(self) -> None:
        with self._lock:
            if self._ended.is_set() or not self._free:
                return
            self._turns += 1
            self._terminal.write(ERASE + grid.cut(self._line(), shutil.get_terminal_size().columns - 1))
            self._terminal.flush()

    def _line(self) -> str:
        seconds = int(clock.monotonic() - self._began)
        took = f"{seconds // 60}:{seconds % 60:02}"
        turn = TURNING[self._turns % len(TURNING)]
        if self._total is None:
            count = f"  {self._done:,}" if self._done else ""
            return f"{turn} {self._label}{count}  {took}"
        full = BAR_CHARS * min(self._done, self._total) // max(1, self._total)
        bar = "#" * full + "." * (BAR_CHARS - full)
        return f"{turn} {self._label}  [{bar}] {self._done:,}/{self._total:,}  {took}"


class _Above(io.TextIOBase):
    """A terminal, as those see it who print while a bar is shown."""

    def __init__(self, bar: Bar, file: TextIO) -> None:
        self._bar = bar
        self._file = file

    @property
    def encoding(self) -> str:  # type: ignore[override] # click wraps a stream anew that does not tell it
        return self._file.encoding

    @property
    def errors(self) -> str:  # type: ignore[override] # the same
        return self._file.errors or "strict"

    def write(self, text: str) -> int:
        self._bar.above(self._file, text)
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()


@contextmanager
def shown(label: str, total: int | None) -> Iterator[Bar]:
    """The bar on standard error, which is a terminal."""
    bar = Bar(label, total, sys.stderr)
    drawing = threading.Thread(target=bar.run, name="progress", daemon=True)
    drawing.start()
    try:
        with contextlib.ExitStack() as redirected:
            redirected.enter_context(contextlib.redirect_stderr(_Above(bar, sys.stderr)))
            if sys.stdout.isatty():
                redirected.enter_context(contextlib.redirect_stdout(_Above(bar, sys.stdout)))
            yield bar
    finally:
        bar.end()
        drawing.join()
