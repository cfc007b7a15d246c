"""Measures everything, prints the table, writes build/bench.json: `python -m benchmarks`."""

import tempfile
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from benchmarks import load, report, restart, routing, scaling, scenes, schedules

RESULT: Final = Path(__file__).parents[1] / "build" / "bench.json"
PARTS: Final = (
    "fsync",
    "os",
    "messages",
    "websockets",
    "cold",
    "idle",
    "restart",
    "routing",
    "scaling",
    "schedules",
)


@click.command()
@click.option("--tasks", type=click.IntRange(100), default=load.TASKS, show_default=True)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Not all of it.")
def bench(tasks: int, only: tuple[str, ...]) -> None:
    """Measure a hive from outside. Takes about six minutes; nothing else should run meanwhile."""
    parts = only or PARTS
    result: dict[str, Any] = {"machine": report.machine(), "tasks": tasks}
    with tempfile.TemporaryDirectory(prefix="hive-bench-") as place:
        folder = Path(place)
        for mode in ("fsync", "os"):
            if mode in parts:
                click.echo(f"speed, {mode} …", err=True)
                result[mode] = scenes.speed(folder / mode, mode, tasks)
        if "messages" in parts:
            result["messages"] = {}
            for mode in ("fsync", "os"):
                click.echo(f"messages, {mode} …", err=True)
                result["messages"][mode] = scenes.talk(folder / f"talk-{mode}", mode)
        if "websockets" in parts:
            click.echo("200 WebSockets …", err=True)
            result["websocket_kb"] = scenes.websockets(folder / "websockets")
        if "cold" in parts:
            click.echo("cold start …", err=True)
            result["cold_start_s"] = scenes.cold_start(folder / "cold")
        if "idle" in parts:
            click.echo("idle, then 200 bots …", err=True)
            result |= scenes.idle(folder / "idle")
        if "restart" in parts:
            click.echo("a start on a long log …", err=True)
            result["restart"] = {"os": restart.measure(folder / "restart")}
        if "routing" in parts:
            click.echo("choosing a bot …", err=True)
            result["routing_decision_us"] = routing.measure()
        if "scaling" in parts:
            click.echo("a flood on a pool …", err=True)
            result["scale_up_s"] = scaling.measure(folder / "scaling", "fsync")
        if "schedules" in parts:
            click.echo("10,000 schedules …", err=True)
            result["schedules"] = {"fsync": schedules.measure(folder / "schedules", "fsync")}
            result["schedules_late_ms_p99"] = result["schedules"]["fsync"]["late_ms"]["p99"]
    if "fsync" in result:
        result["cpu_us_per_task"] = result["fsync"]["cpu_us_per_task"]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    click.echo(report.table(result))
    click.echo(f"written to {RESULT}", err=True)


if __name__ == "__main__":
    bench()
