"""What the jail asks of the kernel, and the box it is told to make.

Part of the jail, which runs before a program: only the standard library is here.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_NO_NEW_PRIVS = 38

NAMESPACE, LANDLOCK, OFF = "namespace", "landlock", "off"
REFUSED = 126
TMP = Path("/tmp")  # noqa: S108  where the program finds the folder of its own, in a namespace
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


class Box(NamedTuple):
    """What one program may see, and where it works."""

    mechanism: str
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    kept: Path
    tmp: Path


def check(result: int, what: str) -> int:
    """The result of a C call, or OSError with what was tried."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def end_like(how: int) -> None:
    """End as the program did."""
    if os.WIFSIGNALED(how):
        if os.WTERMSIG(how) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(how), signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {os.WTERMSIG(how)})
        os.kill(os.getpid(), os.WTERMSIG(how))
    os._exit(os.waitstatus_to_exitcode(how))
