"""Rules for what a program may open, where it cannot have a root of its own.

Part of the jail, which runs before a program: only the standard library is here.
"""

import ctypes
import errno
import os
import stat
from pathlib import Path

from bots.kernel import DEVICES, Box, check, libc

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


class Rule(ctypes.Structure):
    """What the kernel takes as one Landlock rule."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


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
