"""`hive up`: start a hive on this machine."""

import os
from pathlib import Path
from typing import Final

import click

from cli import detach, launch, ports, reach
from cli.data_dir import DataDir
from cli.plan import SERVICES, Plan
from cli.session import Here, local
from shared.runtime.credentials import SIGNER_FILE
from shared.runtime.permissions import OPS

REPLICAS: Final = (1, 3, 5)


@click.command()
@local
@click.option("apart", "--detach", is_flag=True, help="Return when it is ready; `hive down` stops it.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), help=f"Of the API; default {ports.HTTP_PORT}, or a free one."
)
@click.option(
    "--nats", "nats_url", metavar="URL", help="Use this broker or cluster, start none. Needs --creds-dir."
)
@click.option(
    "--creds-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="The .creds files of the broker's users: ops, gateway, svc-orchestrator, svc-messenger, "
    "svc-scheduler, svc-bots, and bots.signer.",
)
@click.option(
    "--durability",
    type=click.Choice(["fsync", "os"]),
    default="fsync",
    show_default=True,
    help="What acknowledged means: on disk, or handed to the operating system (faster).",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 5),
    default=1,
    show_default=True,
    envvar="HIVE_REPLICAS",
    help="On how many brokers of a cluster everything lies: 1, 3 or 5. Needs --nats.",
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="A folder under which bots may have workspaces; default: where you are.",
)
@click.option("--env", "env_allow", multiple=True, metavar="NAME", help="A variable that bots may ask for.")
@click.option("--tell-fd", type=int, hidden=True)
def up(
    here: Here,
    *,
    apart: bool,
    port: int | None,
    nats_url: str | None,
    creds_dir: Path | None,
    durability: str,
    replicas: int,
    roots: tuple[Path, ...],
    env_allow: tuple[str, ...],
    tell_fd: int | None,
) -> None:
    """Start a hive on this machine, and stay: Ctrl-C drains and stops it."""
    if (nats_url is None) != (creds_dir is None):
        raise click.UsageError(
            "--nats and --creds-dir go together: an existing broker, and the users it knows."
        )
    if replicas not in REPLICAS or (replicas > 1 and nats_url is None):
        raise click.UsageError("--replicas is 1, 3 or 5, and above 1 it needs the cluster of --nats.")
    if creds_dir is not None and (missing := missing_creds(creds_dir)):
        raise click.UsageError(f"{creds_dir} lacks {', '.join(missing)}: it holds the users of the broker.")
    if nats_url is not None:
        reach.until_there(nats_url, lambda text: click.echo(text, err=True))
    plan = Plan(
        data=here.data.path,
        port=port,
        nats_url=nats_url,
        creds_dir=creds_dir,
        durability=durability,
        replicas=replicas,
        roots=roots or (Path.cwd(),),
        env_allow=env_allow,
        environment=dict(os.environ),  # noqa: TID251 - what of it services may see is said in plan.py
    )
    if apart:
        _detached(plan, as_json=here.as_json)
    else:
        launch.run(plan, as_json=here.as_json, tell_fd=tell_fd)


def missing_creds(folder: Path) -> list[str]:
    """What a folder of credentials must hold, and does not."""
    needed = [f"{sender}.creds" for sender in (OPS, *(service.sender for service in SERVICES))]
    return [name for name in (*needed, SIGNER_FILE) if not (folder / name).exists()]


def _detached(plan: Plan, *, as_json: bool) -> None:
    data = DataDir(plan.data)
    data.make()
    if data.is_held():
        raise launch.held_by(data, data.running())
    click.echo(detach.start(_options(plan, as_json=as_json), data.log_of("supervisor"), quiet=as_json))


def _options(plan: Plan, *, as_json: bool) -> list[str]:
    """The same options again, for the supervisor itself."""
    single = {
        "--data": plan.data,
        "--port": plan.port,
        "--nats": plan.nats_url,
        "--creds-dir": plan.creds_dir,
        "--durability": plan.durability,
        "--replicas": plan.replicas,
    }
    options = [f"{name}={value}" for name, value in single.items() if value is not None]
    options += [f"--root={root}" for root in plan.roots]
    options += [f"--env={name}" for name in plan.env_allow]
    return [*options, "--json"] if as_json else options
