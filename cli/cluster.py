"""`hive cluster`: keys and configurations for brokers of one's own that replicate what a hive stores."""

from pathlib import Path
from typing import Final, NamedTuple

import click

from cli import screen
from cli.session import Here, local
from shared.contracts.words import is_name
from shared.runtime import private
from shared.runtime.broker import BrokerConfig, Cluster
from shared.runtime.credentials import create_authority
from shared.runtime.settings import DURABILITIES

CLIENT_PORT: Final = 4222
ROUTE_PORT: Final = 6222
MONITOR_PORT: Final = 8222
SIZES: Final = (3, 5)


class Node(NamedTuple):
    """One server: its name, and where it listens: for clients, for the other nodes, for who monitors it."""

    name: str
    host: str
    port: int
    route_port: int
    monitor_port: int


class _Node(click.ParamType[Node]):
    """`NAME=HOST[:PORT[:ROUTE_PORT[:MONITOR_PORT]]]`."""

    name = "node"

    def convert(self, value: str | Node, param: click.Parameter | None, ctx: click.Context | None) -> Node:
        if isinstance(value, Node):
            return value
        name, _, place = value.partition("=")
        host, *ports = place.split(":")
        usual = (CLIENT_PORT, ROUTE_PORT, MONITOR_PORT)
        if not is_name(name) or not host or len(ports) > len(usual) or not all(map(_is_port, ports)):
            self.fail(f"{value!r} is not NAME=HOST or NAME=HOST:PORT:ROUTE_PORT:MONITOR_PORT", param, ctx)
        return Node(name, host, *map(int, ports), *usual[len(ports) :])


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 65_536  # noqa: PLR2004 - ports


def _shared_places(nodes: tuple[Node, ...]) -> str:
    """Where more than one would listen; empty if each has places of its own."""
    places = [
        f"{node.host}:{port}" for node in nodes for port in (node.port, node.route_port, node.monitor_port)
    ]
    return ", ".join(sorted({place for place in places if places.count(place) > 1}))


@click.group()
def cluster() -> None:
    """Prepare a cluster of brokers for a hive."""


@cluster.command()
@local
@click.argument("folder", type=click.Path(file_okay=False, resolve_path=True, path_type=Path))
@click.option(
    "nodes",
    "--node",
    type=_Node(),
    multiple=True,
    required=True,
    metavar="NAME=HOST[:PORT:ROUTE:MONITOR]",
    help=f"A server, three or five of them; ports {CLIENT_PORT}, {ROUTE_PORT}, {MONITOR_PORT} if not said.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/hive-nats"),
    show_default=True,
    help="Where a server stores, as it sees it; its name is appended.",
)
@click.option("--durability", type=click.Choice(DURABILITIES), default="fsync", show_default=True)
def init(here: Here, *, folder: Path, nodes: tuple[Node, ...], store: Path, durability: str) -> None:
    """Make keys and one configuration for each server. Run again, it keeps the keys that are there."""
    names = {node.name for node in nodes}
    if len(names) != len(nodes) or len(nodes) not in SIZES:
        raise click.UsageError("a cluster has three or five nodes, each with a name of its own.")
    if taken := _shared_places(nodes):
        raise click.UsageError(
            f"two servers cannot both listen on {taken}: give those of one host ports of their own, "
            "NAME=HOST:PORT:ROUTE:MONITOR."
        )
    authority = create_authority(folder / "keys")
    routes = tuple(f"{node.host}:{node.route_port}" for node in nodes)
    private.make_folder(folder)
    for node in nodes:
        config = BrokerConfig(
            authority=authority,
            store_dir=store / node.name,
            durability=durability,
            host=node.host,
            port=node.port,
            monitor_host="127.0.0.1",
            monitor_port=node.monitor_port,
            name=node.name,
            cluster=Cluster(host=node.host, port=node.route_port, routes=routes),
        )
        private.write(folder / f"{node.name}.conf", config.render())
    urls = ",".join(f"nats://{node.host}:{node.port}" for node in nodes)
    told = {"nats": urls, "creds_dir": str(folder / "keys"), "replicas": len(nodes)}
    if here.as_json:
        screen.document(told)
        return
    for node in nodes:
        click.echo(
            f"on {node.host}: nats-server -c {node.name}.conf   ({folder / node.name}.conf, from here)"
        )
    click.echo(f"then: hive up --nats {urls} --creds-dir {folder / 'keys'} --replicas {len(nodes)}")
