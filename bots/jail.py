"""Becomes a program, boxed in: started afresh for every run, before the program replaces it.

Run as a script by bots/engines/program.py with the interpreter's `-I -S`: only the standard library is here,
and little of it, for it starts in 15 ms. A process of its own may change namespaces and limits without
touching the bot. When any of it fails nothing is run: the reason goes to the descriptor named `status`, which
closes when all is well.

What a program may see is a list, and all else is not there: `kept`, its workspace, and `tmp`, a folder of its
own, to read and write; `readable` and a few devices. `hidden` stays hidden wherever those lead. Between the
bot and the program stays a keeper: when the program has ended, so has all that it started.
"""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # nothing else says where the rest of it is
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from bots.keeper import watch_over
from bots.kernel import (
    LANDLOCK,
    NAMESPACE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    REFUSED,
    Box,
    check,
    libc,
)
from bots.landlock import restrict
from bots.namespace import enclose


def limit(limits: dict[str, int]) -> None:
    """Set resource limits, soft and hard; never above what is there."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(number)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (wanted, wanted))


def become(argv: list[str], *, status: int, owner: int, box: Box, limits: dict[str, int]) -> None:
    """Set all up and turn into the program."""
    os.set_inheritable(status, False)  # noqa: FBT003  it takes no keyword
    os.setpgid(0, 0)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the bot")
    if os.getppid() != owner:  # it is gone already
        os._exit(REFUSED)
    if box.mechanism == NAMESPACE:
        enclose(status, box)
    else:
        watch_over(status)
    if box.mechanism == LANDLOCK:
        restrict(box)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them, a program does not
        signal.signal(number, signal.SIG_DFL)
    limit(limits)
    os.execvp(argv[0], argv)  # noqa: S606  no shell is what we want


def main() -> None:
    """`jail.py STATUS OWNER MECHANISM HIDDEN READABLE KEPT TMP LIMITS PROGRAM [ARGUMENT]…`.

    Folders are separated as in PATH; limits are `name=value`, separated by commas.
    """
    status, owner, mechanism, hidden, readable, kept, tmp, limits, *argv = sys.argv[1:]
    pairs = [pair.partition("=") for pair in limits.split(",") if pair]
    try:
        box = Box(mechanism, _paths(hidden), _paths(readable), Path(kept), Path(tmp))
        numbers = {name: int(value) for name, _, value in pairs}
        become(argv, status=int(status), owner=int(owner), box=box, limits=numbers)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.write(int(status), str(error).encode()[:4000])
    os._exit(REFUSED)


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in text.split(os.pathsep) if folder)


if __name__ == "__main__":
    main()
