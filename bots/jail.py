"""Becomes a program, boxed in: started afresh for every run, before the program replaces it.

Run as a script by bots/engines/program.py with the interpreter's `-I -S`: only the standard library is here,
and little of it, for it starts in 15 ms; that is also why all of it is one file. A process of its own may
change namespaces and limits without touching the bot. When any of it fails nothing is run: the reason goes
to the descriptor named `status`, which closes when all is well.

What a program may see is a list, and all else is not there: `kept`, its workspace, and `tmp`, a folder of its
own, to read and write; `readable` and a few devices. `hidden` stays hidden wherever those lead. Between the
bot and the program stays a keeper: when the program has ended, so has all that it started.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_NO_NEW_PRIVS = 38
CAPABILITIES_MAX = 63
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, AT_RECURSIVE, AT_EMPTY_PATH, MOUNT_ATTR_RDONLY = 442, 0x8000, 0x1000, 1

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights on files a version knows; from 5 on 16
LANDLOCK_RIGHTS_NEWEST = 16
LANDLOCK_READ = 0b1101  # execute, read files, read folders
LANDLOCK_ON_FILES = (
    0b1100_0000_0000_0111  # execute, write, read, truncate, ioctl: what makes sense for no folder
)
LANDLOCK_SCOPED_FROM = 6  # the version that can keep signals and abstract sockets within the box
LANDLOCK_SCOPE_ALL = 0b11

NAMESPACE, LANDLOCK, OFF = "namespace", "landlock", "off"
REFUSED = 126
LEFT_OVER_S = 0.8  # how long a keeper goes on killing; what hangs in the kernel is left then
TMP = Path("/tmp")  # noqa: S108  where the program finds the folder of its own, in a namespace
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SHARED_MEMORY = b"size=64m,mode=1777"

libc = ctypes.CDLL(None, use_errno=True)


class Rule(ctypes.Structure):
    """What the kernel takes as one Landlock rule."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


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


# In a namespace: a root of its own, made of what the program may see.


def unshare() -> None:
    """Leave the mounts and, for our children, the processes of the machine; in a user namespace if needed."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID) < 0:
        if ctypes.get_errno() != errno.EPERM:
            check(-1, "unshare")
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount private")


def build_root(box: Box) -> Path:
    """Put together, in the folder that is its `tmp` outside, all that the program will see."""
    root = box.tmp
    own = {place: os.open(place, os.O_PATH | os.O_DIRECTORY) for place in (box.kept, box.tmp)}
    _tmpfs(root, b"size=1m,mode=0755")
    _bind(own[box.tmp], _inside(root, TMP))  # first: what follows may lie in the machine's own /tmp
    shown: list[Path] = []
    for path in sorted({path.resolve() for path in box.readable}):
        if path.exists() and not any(path.is_relative_to(other) for other in shown):
            _show(root, path)
            shown.append(path)
    for path in box.readable:
        _link(root, path)
    _devices(root)
    inside_hidden = any(box.kept.is_relative_to(folder) for folder in box.hidden)
    if not inside_hidden:
        _bind(own[box.kept], _inside(root, box.kept))
    for folder in box.hidden:
        if _inside(root, folder).is_dir():
            _tmpfs(_inside(root, folder), b"size=64k,mode=0755")
    if inside_hidden:
        _bind(own[box.kept], _inside(root, box.kept))
    _inside(root, Path("/proc")).mkdir()
    for handle in own.values():
        os.close(handle)
    return root


def _inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _tmpfs(folder: Path, options: bytes) -> None:
    flags = MS_NOSUID | MS_NODEV
    check(libc.mount(b"hive", os.fsencode(folder), b"tmpfs", flags, options), f"mount tmpfs on {folder}")


def _bind(source: int | Path, place: Path) -> None:
    name = source if isinstance(source, Path) else Path(f"/proc/self/fd/{source}")
    if not place.exists():
        if name.is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    flags = MS_BIND | MS_REC
    check(libc.mount(os.fsencode(name), os.fsencode(place), None, flags, None), f"mount {place}")


def _show(root: Path, path: Path) -> None:
    """To read, and not to write: with all that is mounted below it."""
    place = _inside(root, path)
    _bind(path, place)
    _read_only(place, AT_RECURSIVE)


def _read_only(place: Path, flags: int) -> None:
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = libc.syscall(
        *(MOUNT_SETATTR, -100, os.fsencode(place), flags),
        *(attributes, ctypes.c_size_t(ctypes.sizeof(attributes))),
    )
    check(done, f"mount {place} read-only")


def _link(root: Path, path: Path) -> None:
    """A path that leads elsewhere does so in the box, too, as `/bin` leads to `/usr/bin`."""
    place, real = _inside(root, path), path.resolve()
    if path != real and real.exists() and not os.path.lexists(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(real)


def _devices(root: Path) -> None:
    devices = _inside(root, Path("/dev"))
    for name in DEVICES:
        if (device := Path("/dev") / name).exists():
            _bind(device, devices / name)
    for name, number in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (devices / name).symlink_to(f"/proc/self/fd{number}")
    (devices / "shm").mkdir()
    _tmpfs(devices / "shm", SHARED_MEMORY)


def enter(root: Path, kept: Path) -> None:
    """Make it the root. Only now the old one goes: a `/proc` can be mounted beside another only."""
    proc = _inside(root, Path("/proc"))
    if libc.mount(b"proc", os.fsencode(proc), b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None) < 0:
        _bind(Path("/proc"), proc)  # refused in some containers: the old one, then
    _read_only(root, 0)
    os.chdir(root)
    machine = os.uname().machine
    if machine not in PIVOT_ROOT:
        raise OSError(errno.ENOSYS, f"how to pivot_root on {machine} is not known")
    check(libc.syscall(PIVOT_ROOT[machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir(kept)


def drop_capabilities() -> None:
    """Root without them can neither mount nor look into others; it holds from the next exec on."""
    for capability in range(CAPABILITIES_MAX + 1):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 and ctypes.get_errno() != errno.EINVAL:
            check(-1, "drop capabilities")


def enclose(status: int, box: Box) -> None:
    """Go on in a namespace of processes of our own, where nobody outside can be seen or signalled.

    Its first process waits for the program; when that has ended, so has all it started, wherever it fled to.
    The process that the bot knows stays outside, and ends as the program did. Returns in the program only.
    """
    unshare()
    root = build_root(box)
    drop_capabilities()
    go, started = os.pipe()
    told, tell = os.pipe()
    first = os.fork()
    if first:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGTERM))  # it hands it on
        signal.signal(signal.SIGQUIT, lambda *_: os.kill(first, signal.SIGKILL))
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        os.close(status)
        os.close(tell)
        os.write(started, b"x")
        os.waitpid(first, 0)
        _end_like(int.from_bytes(os.read(told, 4) or signal.SIGKILL.to_bytes(4, "big"), "big"))
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the one outside")
    os.close(started)
    if not os.read(go, 1):  # it is gone already
        os._exit(REFUSED)
    enter(root, box.kept)
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


def _end_like(how: int) -> None:
    """End as the program did."""
    if os.WIFSIGNALED(how):
        if os.WTERMSIG(how) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(how), signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {os.WTERMSIG(how)})
        os.kill(os.getpid(), os.WTERMSIG(how))
    os._exit(os.waitstatus_to_exitcode(how))


# Without namespaces: a keeper that inherits whoever loses its parent, and rules for what may be opened.


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
    _end_like(how)


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


def restrict(box: Box) -> None:
    """Allow what the box says, by Landlock, and nothing else."""
    version = check(
        libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION), "landlock"
    )
    rights = (1 << LANDLOCK_RIGHTS.get(version, LANDLOCK_RIGHTS_NEWEST)) - 1
    scoped = version >= LANDLOCK_SCOPED_FROM
    handled = (ctypes.c_uint64 * 3)(rights, 0, LANDLOCK_SCOPE_ALL if scoped else 0)
    size = ctypes.c_size_t(24 if scoped else 8)
    rules = check(libc.syscall(LANDLOCK_CREATE_RULESET, handled, size, 0), "landlock")
    devices = [Path("/dev") / name for name in DEVICES]
    for path in (*box.readable, Path("/proc")):
        _allow(rules, path.resolve(), LANDLOCK_READ, box.hidden)
    for path in (box.kept, *devices):
        _allow(rules, path, rights, box.hidden)
    _allow_one(rules, box.tmp, rights)
    if any(box.kept.is_relative_to(folder) for folder in box.hidden):
        _allow_one(rules, box.kept, rights)
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)


def _allow(rules: int, path: Path, rights: int, hidden: tuple[Path, ...]) -> None:
    """All of it; or, when something in it is hidden, all beside what leads there."""
    if path.is_symlink() or any(path.is_relative_to(folder) for folder in hidden):
        return
    if not any(folder.is_relative_to(path) for folder in hidden):
        _allow_one(rules, path, rights)
        return
    for beside in path.iterdir():
        _allow(rules, beside, rights, hidden)


def _allow_one(rules: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, went away, or is not ours to open: not allowed is the safe side
    folder = stat.S_ISDIR(os.fstat(handle).st_mode)
    rule = Rule(rights if folder else rights & LANDLOCK_ON_FILES, handle)
    added = libc.syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    if added < 0 and ctypes.get_errno() not in {errno.EBADFD, errno.EINVAL}:
        check(added, f"landlock rule for {path}")
    os.close(handle)


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
