"""Becomes a program, boxed in: started afresh for every run, before the program replaces it.

Run as a script by bots/engines/program.py with the interpreter's `-I -S`: only the standard library is here,
and little of it, for it starts in 15 ms. A process of its own may change namespaces and limits without
touching the bot. When any of it fails nothing is run: the reason goes to the descriptor named `status`, which
closes when all is well.
"""

import ctypes
import errno
import os
import resource
import signal
import stat
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
CAPABILITIES_MAX = 63

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights on files a version knows; from 5 on 16
LANDLOCK_RIGHTS_NEWEST = 16
LANDLOCK_ON_FILES = (
    0b1100_0000_0000_0111  # execute, write, read, truncate, ioctl: what makes sense for no folder
)

NAMESPACE, LANDLOCK, OFF = "namespace", "landlock", "off"
REFUSED = 126

libc = ctypes.CDLL(None, use_errno=True)


class Rule(ctypes.Structure):
    """What the kernel takes as one Landlock rule."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def check(result: int, what: str) -> int:
    """The result of a C call, or OSError with what was tried."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def hide_by_namespace(hidden: list[Path], kept: Path) -> None:
    """Cover the folders with empty ones, for this process and its children; show `kept` in them again."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID) < 0:
        if ctypes.get_errno() != errno.EPERM:
            check(-1, "unshare")
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount private")
    handle = os.open(kept, os.O_PATH | os.O_DIRECTORY)
    for folder in hidden:
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        check(libc.mount(b"hive", os.fsencode(folder), b"tmpfs", flags, b"size=64k,mode=0755"), "mount tmpfs")
        if kept.is_relative_to(folder):
            kept.mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{handle}".encode()
            check(libc.mount(source, os.fsencode(kept), None, MS_BIND | MS_REC, None), "mount workspace")
    os.close(handle)
    os.chdir(kept)  # again: `..` would still lead through the covered folder
    for capability in range(
        CAPABILITIES_MAX + 1
    ):  # root without them can neither uncover nor look into others
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 and ctypes.get_errno() != errno.EINVAL:
            check(-1, "drop capabilities")


def hide_by_landlock(hidden: list[Path], kept: Path) -> None:
    """Allow everything beside the folders and beside those that lead to them, and `kept`; nothing else."""
    version = check(
        libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION), "landlock"
    )
    rights = (1 << LANDLOCK_RIGHTS.get(version, LANDLOCK_RIGHTS_NEWEST)) - 1
    handled = ctypes.c_uint64(rights)
    rules = check(
        libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0), "landlock"
    )
    on_the_way = {parent for folder in hidden for parent in folder.parents}
    for folder in on_the_way - set(hidden):
        for beside in folder.iterdir():
            if beside not in on_the_way and beside not in hidden and not beside.is_symlink():
                _allow(rules, beside, rights)
    if any(kept.is_relative_to(folder) for folder in hidden):
        _allow(rules, kept, rights)
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # it went away, or is not ours to open: not allowed is the safe side
    folder = stat.S_ISDIR(os.fstat(handle).st_mode)
    rule = Rule(rights if folder else rights & LANDLOCK_ON_FILES, handle)
    added = libc.syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    if added < 0 and ctypes.get_errno() not in {errno.EBADFD, errno.EINVAL}:
        check(added, f"landlock rule for {path}")
    os.close(handle)


def hide_nothing(_hidden: list[Path], _kept: Path) -> None:
    """The operator accepted the risk."""


def enclose(status: int) -> None:
    """Go on in a namespace of processes of our own, where nobody outside can be seen or signalled.

    Its first process waits for the program; when that has ended, so has all it started, wherever it fled to.
    The process that the bot knows stays outside, and ends as the program did. Returns in the program only.
    """
    go, started = os.pipe()
    told, tell = os.pipe()
    first = os.fork()
    if first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first process hands it on
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        os.close(status)
        os.close(tell)
        os.write(started, b"x")
        os.waitpid(first, 0)
        _end_like(os.read(told, 4))
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the one outside")
    os.close(started)
    if not os.read(go, 1):  # it is gone already
        os._exit(REFUSED)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    libc.mount(b"proc", b"/proc", b"proc", flags, None)  # refused in some containers: the old one stays
    program = os.fork()
    if program:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(program, signal.SIGTERM))
        os.close(status)
        ended = 0
        while ended != program:
            ended, how = os.wait()
        os.write(tell, how.to_bytes(4, "big"))
        os._exit(0)
    for handle in (go, told, tell):
        os.close(handle)
    os.setpgid(0, 0)


def _end_like(told: bytes) -> None:
    """End as the program did; without word of that, the first process was killed."""
    how = int.from_bytes(told, "big") if told else signal.SIGKILL
    if os.WIFSIGNALED(how):
        if os.WTERMSIG(how) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(how), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(how))
    os._exit(os.waitstatus_to_exitcode(how))


HIDE = {NAMESPACE: hide_by_namespace, LANDLOCK: hide_by_landlock, OFF: hide_nothing}


def become(
    argv: list[str], *, status: int, owner: int, mechanism: str, hidden: list[Path], kept: Path, limits: str
) -> None:
    """Set all up and turn into the program. `limits` are `name=value` pairs, separated by commas."""
    os.set_inheritable(status, False)  # noqa: FBT003  it takes no keyword
    os.setpgid(0, 0)
    for pair in filter(None, limits.split(",")):
        name, _, value = pair.partition("=")
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(number)
        wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(number, (wanted, wanted))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    HIDE[mechanism](hidden, kept)
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the bot")
    if os.getppid() != owner:  # it is gone already
        os._exit(REFUSED)
    if mechanism == NAMESPACE:
        enclose(status)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them, a program does not
        signal.signal(number, signal.SIG_DFL)
    os.execvp(argv[0], argv)  # noqa: S606  no shell is what we want


def main() -> None:
    """`jail.py STATUS OWNER MECHANISM HIDDEN KEPT LIMITS PROGRAM [ARGUMENT]…`."""
    status, owner, mechanism, hidden, kept, limits, *argv = sys.argv[1:]
    try:
        become(
            argv,
            status=int(status),
            owner=int(owner),
            mechanism=mechanism,
            hidden=[Path(folder) for folder in hidden.split(os.pathsep)],
            kept=Path(kept),
            limits=limits,
        )
    except (OSError, ValueError) as error:
        os.write(int(status), str(error).encode()[:4000])
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
