"""What the processes of a hive use: proportional memory and CPU time, as the kernel counts them."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psutil

KIB: Final = 1024
CPU_CLOCK: Final = 2
"""The clock of a process as the kernel numbers it: exact, where `/proc/…/stat` counts hundredths."""

US_PER_S: Final = 1_000_000


def tree(root_pid: int) -> list[int]:
    """A process and all that came from it."""
    root = psutil.Process(root_pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]


def is_zygote(pid: int) -> bool:
    """Whether others are forked from it; it says so in its title."""
    try:
        return b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def pss_bytes(pid: int) -> int:
    """Proportional set size: its own pages, and its share of those it has in common with others."""
    return _rollup(pid, "Pss:")


def rss_bytes(pid: int) -> int:
    """Resident set size: all its pages, shared or not."""
    return _rollup(pid, "Rss:")


def cpu_s(pid: int) -> float:
    """CPU time used so far, in user and kernel; 0 for one that is gone."""
    try:
        return time.clock_gettime((~pid << 3) | CPU_CLOCK)
    except OSError:
        return 0.0


def cpu_of(groups: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """CPU time so far of each named group of processes."""
    return {name: sum(cpu_s(pid) for pid in pids) for name, pids in groups.items()}


def cpu_us_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, int]:
    """CPU time in microseconds that each group used for one of `count` tasks."""
    return {name: round((after[name] - before[name]) / count * US_PER_S) for name in before}


def _rollup(pid: int, label: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * KIB for line in lines if line.startswith(label)), 0)
