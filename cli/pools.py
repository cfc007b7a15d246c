"""`hive pools` and `hive scale`: fleets that size themselves."""

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cli import screen
from cli.bots import Types
from cli.client import Client, decode
from cli.failure import Exit, Failure
from cli.listing import fetch
from cli.session import Session, talking
from shared.contracts.orchestrator.facts import MEMORY_MB_MAX, MEMORY_MB_MIN, BotSpec
from shared.contracts.orchestrator.pools import (
    POOL_BOTS_MAX,
    POOL_MAX_DEFAULT,
    POOL_MIN_DEFAULT,
    PoolDecision,
    PoolDoc,
)
from shared.contracts.words import SLOTS_MAX, TaskType

ACCEPTED: Final = 202
DECISIONS_SHOWN: Final = 10
COLUMNS: Final = ("name", "bots", "min", "max", "queue", "load", "engine", "now", "why")
DECISION_COLUMNS: Final = ("when", "decision", "bots", "why")
NONE: Final = "No pools: `hive scale coders --min 1 --max 10 --engine echo`"

_BOUND: Final = click.IntRange(1, POOL_BOTS_MAX)


@click.command()
@talking
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
def pools(session: Session, *, limit: int) -> None:
    """List pools by name, with what each would do now."""
    with session.client() as client:
        listed = fetch(client, "/v1/pools", limit=limit)
    if session.as_json:
        screen.document(listed)
        return
    screen.table(COLUMNS, [_row(pool) for pool in listed.typed(PoolDoc)], empty=NONE, spare=("engine",))


@click.command()
@talking
@click.argument("name")
@click.option("least", "--min", type=_BOUND, help=f"Bots at least; of a new pool {POOL_MIN_DEFAULT}.")
@click.option("most", "--max", type=_BOUND, help=f"Bots at most; of a new pool {POOL_MAX_DEFAULT}.")
@click.option("enabled", "--on/--off", default=None, help="Whether it scales itself at all.")
@click.option("--explain", is_flag=True, help="Show its last decisions, what it would do now, and why.")
@click.option("--engine", help="What its bots are: echo, shell, command, …")
@click.option("--types", type=Types(), metavar="code,testing,…", help="What they are good at.")
@click.option("--slots", type=click.IntRange(1, SLOTS_MAX), help="How many tasks each does at a time.")
@click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="The folder they work in; default: one of its own for each.",
)
@click.option("--env", multiple=True, metavar="NAME", help="A variable they get; the hive must allow it.")
@click.option("--allow", multiple=True, metavar="PROGRAM", help="Of the engine shell: one more program.")
@click.option("--argv", multiple=True, metavar="WORD", help="Of the engine command: its words.")
@click.option(
    "memory_mb",
    "--memory",
    type=click.IntRange(MEMORY_MB_MIN, MEMORY_MB_MAX),
    metavar="MB",
    help="What each process of their programs may have.",
)
@click.option("--host", help="The machine they run on.")
def scale(
    session: Session,
    *,
    name: str,
    least: int | None,
    most: int | None,
    enabled: bool | None,
    explain: bool,
    types: tuple[TaskType, ...] | None,
    **more: Any,
) -> None:
    """Say how many bots a pool may have and what they are; what is not said stays as it is."""
    wanted = {"min": least, "max": most, "enabled": enabled}
    template = {field: value for field, value in {"types": types, **_told(more)}.items() if value}
    asks = bool(template) or any(value is not None for value in wanted.values())
    if explain and asks:
        raise click.UsageError("--explain only looks: ask for the change first, then explain it.")
    with session.client() as client:
        if asks:
            _configure(session, client, name, wanted, template)
        else:
            _explain(session, client, name)


def _told(more: dict[str, Any]) -> dict[str, Any]:
    workspace = more.pop("workspace")
    return {**more, "workspace": None if workspace is None else str(workspace)}


def _configure(
    session: Session, client: Client, name: str, wanted: dict[str, Any], template: dict[str, Any]
) -> None:
    before = _known(client, name)
    body: dict[str, Any] = {} if before is None else _as_it_is(before)
    body |= {field: value for field, value in wanted.items() if value is not None}
    if template:
        shape = ({} if before is None else _shape(before.template)) | template
        if "engine" not in shape:
            raise click.UsageError(f"{name} is a new pool: say with --engine what its bots are to be.")
        body["template"] = shape
    answer = client.put(f"/v1/pools/{name}", body)
    if session.as_json:
        screen.document(answer.content)
    elif answer.status_code == ACCEPTED:
        click.echo(f"{name}  stored; `hive scale {name}` tells when it is decided")
    else:
        pool = decode(answer, PoolDoc)
        click.echo(f"{name}  {pool.min} to {pool.max} bots, {pool.size} now; {_next(pool.now)}")


def _explain(session: Session, client: Client, name: str) -> None:
    answer = client.get(f"/v1/pools/{name}")
    decisions = fetch(client, f"/v1/pools/{name}/decisions", limit=DECISIONS_SHOWN)
    if session.as_json:
        screen.document({"pool": msgspec.Raw(answer.content), "decisions": decisions.items})
        return
    pool = decode(answer, PoolDoc)
    now = pool.now.readings
    screen.fields(
        (
            ("pool", pool.name),
            ("bots", f"{pool.size} of {pool.min} to {pool.max}" + ("" if pool.enabled else ", switched off")),
            ("launched", ", ".join(pool.bots)),
            ("going", ", ".join(pool.leaving)),
            ("broken", f"{now.broken}; `hive bots --pool {pool.name}` says why" if now.broken else None),
            ("engine", pool.template.engine),
            ("queue", now.queue),
            ("slots", f"{now.held} of {now.slots} taken, {now.bot_load:.0%} of a bot on average"),
            ("run time", None if now.mean_run_s is None else f"{now.mean_run_s:.3g} s on average"),
            ("cleared in", None if now.clear_s is None else f"{now.clear_s:.3g} s"),
            ("host", f"{now.host}: cpu {_share(now.cpu_share)}, memory {_share(now.memory_share)}"),
            ("now", _next(pool.now)),
        )
    )
    click.echo()
    rows = [
        (each.at, each.decision, f"{each.before} to {each.after}", each.reason)
        for each in decisions.typed(PoolDecision)
    ]
    screen.table(DECISION_COLUMNS, rows, empty="It was not scaled yet.")


def _known(client: Client, name: str) -> PoolDoc | None:
    try:
        return decode(client.get(f"/v1/pools/{name}"), PoolDoc)
    except Failure as failure:
        if failure.exit_code == Exit.NOT_FOUND:
            return None
        raise


def _as_it_is(pool: PoolDoc) -> dict[str, Any]:
    return {"min": pool.min, "max": pool.max, "enabled": pool.enabled}


def _shape(spec: BotSpec) -> dict[str, Any]:
    """A template as it is put: the pool is in the path."""
    shape: dict[str, Any] = msgspec.to_builtins(spec)
    del shape["pool"]
    return shape


def _row(pool: PoolDoc) -> tuple[object, ...]:
    now = pool.now.readings
    return (
        pool.name,
        pool.size,
        pool.min,
        pool.max,
        now.queue,
        f"{now.load:.0%}",
        pool.template.engine,
        pool.now.decision if pool.enabled else "off",
        pool.now.reason,
    )


def _next(now: PoolDecision) -> str:
    if now.decision == "hold":
        return f"stays: {screen.safe(now.reason)}"
    return f"{now.decision} to {now.after}: {screen.safe(now.reason)}"


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"
