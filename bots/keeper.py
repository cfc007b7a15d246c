"""Stays between a bot and a program: inherits whoever loses its parent, and ends them all in the end.

Part of the jail, which runs before a program: only the standard library is here.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from bots.kernel import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    REFUSED,
    check,
    end_like,
    libc,
)

LEFT_OVER_S = 0.8  # how long a keeper goes on killing; what hangs in the kernel is left then


def watch_over(status: int) -> None:
    """Leave a keeper behind, which the program cannot reach; returns in the program only.

    SIGTERM it hands on; at SIGQUIT, or when the program or the bot has ended, it kills all that is left.
    """
    heard = {signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "inherit orphans")
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0), "hear of the bot's end")
    keeper = os.getpid()
    program = os.fork()
    if not program:
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the keeper")
        if os.getppid() != keeper:
            os._exit(REFUSED)
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
        return
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.close(status)
    how = _wait_for(program, heard)
    _end_children()
    end_like(how)


def _wait_for(program: int, heard: set[signal.Signals]) -> int:
    while True:
        match signal.sigwait(heard):
            case signal.SIGTERM:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program, signal.SIGTERM)
            case signal.SIGQUIT:
                return signal.SIGKILL
            case _:
                if program in (ended := _reaped()):
                    return ended[program]


def _reaped() -> dict[int, int]:
    """Which children have ended, and how."""
    ended = {}
    with contextlib.suppress(ChildProcessError):  # that was the last one
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    return ended


def _end_children() -> None:
    """Kill who is left, and whom they leave behind: each orphan becomes a child of ours."""
    until = time.monotonic() + LEFT_OVER_S
    with contextlib.suppress(ChildProcessError):  # until nobody is left
        while time.monotonic() < until:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            signal.sigtimedwait({signal.SIGCHLD}, 0.01)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except FileNotFoundError:  # a kernel without it
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _is_ours(path)]


def _is_ours(state: Path) -> bool:
    with contextlib.suppress(OSError):
        return int(state.read_text().rpartition(")")[2].split()[1]) == os.getpid()
    return False
