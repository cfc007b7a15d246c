"""What a program can do in its box, tried out by a program in it: bots/sandbox.py runs it, and judges.

Run as a script with the interpreter's `-I -S`, as the jail is: only the standard library is here.
"""

import json  # noqa: TID251  nothing of ours is there
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

LIVES_ON_S = 30.0


class Saw(NamedTuple):
    """What it could read, write and reach. If what it left behind `outlived` it, the other side knows."""

    secret: bool
    neighbour: bool
    wrote: bool
    workspace: bool
    tmp: bool
    signals: bool
    outlived: bool = False


def can_read(path: Path) -> bool:
    """Whether there is something to read."""
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def can_write(folder: Path) -> bool:
    """Whether a file can be made."""
    try:
        (folder / "written").write_text("by the probe")
    except OSError:
        return False
    return True


def can_signal(pid: int) -> bool:
    """Whether a signal would reach it."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def leave_behind(held: int) -> None:
    """A process that has left its session and its parent; it holds the pipe as long as it lives."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(quiet, standard)
    os.set_inheritable(held, True)  # noqa: FBT003  it takes no keyword
    time.sleep(LIVES_ON_S)
    os._exit(0)


def main() -> None:
    """`probe.py HIDDEN NEIGHBOUR SHOWN TMP PID HELD`."""
    hidden, neighbour, shown, tmp = map(Path, sys.argv[1:5])
    pid, held = map(int, sys.argv[5:])
    saw = Saw(
        secret=can_read(hidden / "secret") or can_read(Path("../../secret")),
        neighbour=can_read(neighbour / "secret"),
        wrote=can_write(shown),
        workspace=can_read(Path("own")) and can_write(Path()),
        tmp=can_write(tmp),
        signals=can_signal(pid),
    )
    leave_behind(held)
    sys.stdout.write(json.dumps(saw))


if __name__ == "__main__":
    main()
