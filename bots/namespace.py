"""A root and processes of its own for a program, made of what it may see.

Part of the jail, which runs before a program: only the standard library is here.
"""

import ctypes
import errno
import os
import signal
from pathlib import Path

from bots.kernel import (
    DEVICES,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    REFUSED,
    TMP,
    Box,
    check,
    end_like,
    libc,
)

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
CAPABILITIES_MAX = 63
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, AT_RECURSIVE, AT_EMPTY_PATH, MOUNT_ATTR_RDONLY = 442, 0x8000, 0x1000, 1
SHARED_MEMORY = b"size=64m,mode=1777"


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
        end_like(int.from_bytes(os.read(told, 4) or signal.SIGKILL.to_bytes(4, "big"), "big"))
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
