"""`hive status`: how the hive is, at a glance."""

from typing import Final

import click
import msgspec

from cli import screen
from cli.client import decode
from cli.data_dir import DataDir
from cli.failure import Exit
from cli.session import Session, talking
from shared.contracts.orchestrator.queries import HostDoc
from shared.runtime.broker import read_stuck

SILENT: Final = "silent"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a service answers."""

    name: str
    reachable: bool
    answered_in_ms: float | None = None
    dead_letters: int | None = None
    detail: str | None = None


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a service."""

    service: str
    waiting: int
    share: float
    oldest_s: float


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are, by state."""

    tasks: dict[str, int]
    bots: dict[str, int]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The document of GET /v1/status."""

    version: str
    services: list[ServiceStatus]
    queues: list[QueueStatus]
    counts: Counts | None = None
    hosts: list[HostDoc] | None = None


@click.command()
@talking
def status(session: Session) -> None:
    """Say how the hive is: services, queues, bot hosts, tasks, bots. Exit 5 when something is away."""
    with session.client() as client:
        answer = client.get("/v1/status")
    told = decode(answer, Status)
    if session.as_json:
        screen.document(answer.content)
    else:
        _show(client.url, told)
    stuck = _stuck(session)
    if stuck is not None:
        click.echo(f"\nThe broker stores no more: {stuck}. `hive doctor` says what to do.", err=True)
        raise SystemExit(Exit.UNAVAILABLE)
    silent = any(host.state == SILENT for host in told.hosts or ())
    if silent or not all(service.reachable for service in told.services):
        raise SystemExit(Exit.UNAVAILABLE)


def _show(url: str, told: Status) -> None:
    click.echo(f"{url}  version {told.version}")
    queues = {queue.service: queue for queue in told.queues}
    rows = []
    for service in told.services:
        queue = queues.get(service.name)
        rows.append(
            (
                service.name,
                "ready" if service.reachable else "away",
                f"{service.answered_in_ms:.3g} ms" if service.answered_in_ms is not None else service.detail,
                queue.waiting if queue else "",
                f"{queue.share:.1%}" if queue else "",
                screen.duration(queue.oldest_s) if queue and queue.waiting else "",
                service.dead_letters,
            )
        )
    columns = ("service", "state", "answered in", "waiting", "queue", "oldest", "dead letters")
    click.echo()
    screen.table(columns, rows, empty="No services.", spare=("queue", "oldest"))
    click.echo()
    _show_hosts(told.hosts)
    if told.counts is None:
        click.echo("tasks and bots: the orchestrator does not tell")
        return
    for name, counts in (("tasks", told.counts.tasks), ("bots", told.counts.bots)):
        shown = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()) if count)
        click.echo(f"{name.ljust(6)} {shown or 'none'}")


def _show_hosts(hosts: list[HostDoc] | None) -> None:
    if hosts is None:
        return
    rows = [
        (host.name, host.state, host.running, f"{screen.duration(host.last_heard_s)} ago", host.engines)
        for host in hosts
    ]
    columns = ("bot host", "state", "bots", "last report", "engines")
    screen.table(columns, rows, empty="No bot host has been heard: no bot starts until one is.")
    click.echo()


def _stuck(session: Session) -> str | None:
    """Why the broker of the hive that runs here stores nothing; None if it does, or is not ours to ask."""
    running = DataDir(session.data).running()
    here = running is not None and session.url in (None, running.url)
    return read_stuck(running.monitor_url) if running and here and running.monitor_url else None
