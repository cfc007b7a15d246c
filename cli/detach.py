"""`hive up --detach`: the supervisor in a session of its own; who started it hears from it until it is ready.

They talk over a pipe: lines of news, then `ready`, then what is to be shown, then the end.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cli.failure import Exit, Failure

READY: Final = b"\0ready\n"
LOG_LINES: Final = 8
ROOT: Final = Path(__file__).resolve().parents[1]
_BOOTSTRAP: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from cli.main import hive; hive(prog_name='hive')"
)


class Starter:
    """Who waits for us, as the supervisor sees it."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "wb", buffering=0)

    def say(self, text: str) -> None:
        """News, until we are ready; a starter who went away is no harm."""
        self._write(f"{text}\n".encode())

    def ready(self, shown: str) -> None:
        """We are ready; the starter shows this and leaves."""
        self._write(READY + shown.encode())
        self._pipe.close()

    def _write(self, data: bytes) -> None:
        if not self._pipe.closed:
            try:
                self._pipe.write(data)
            except BrokenPipeError:
                self._pipe.close()


def start(options: Sequence[str], log: Path, *, quiet: bool) -> str:
    """Start `hive up` with these options; what it shows when it is ready. Failure when it ended instead."""
    heard, told = os.pipe()
    with os.fdopen(heard, "rb") as words, log.open("ab") as output:
        began = output.tell()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-c", _BOOTSTRAP, str(ROOT), "up", *options, "--tell-fd", str(told)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(told,),
                start_new_session=True,
            )
        finally:
            os.close(told)
        for line in words:
            if line == READY:
                return words.read().decode()
            if not quiet:
                click.echo(line.decode(), nl=False, err=True)
    code = process.wait()
    raise Failure(
        "The hive did not start.",
        exit_code=Exit(code) if code in {*Exit} and code else Exit.FAILED,
        code="start_failed",
        why=_last_words(log, began) or f"it ended with {code}",
        todo=f"`hive doctor` says what is wrong; the log is {log}",
    )


def _last_words(log: Path, began: int) -> str:
    with log.open("rb") as file:
        file.seek(began)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n        ".join(line for line in lines[-LOG_LINES:] if line.strip())
