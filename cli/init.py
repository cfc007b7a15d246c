"""The one-shot container of a stack: keys, the broker's configuration, each service's own credentials.

Run again, it changes nothing that is there: keys are made once.
"""

from pathlib import Path
from typing import Final

import click

from shared.runtime import private
from shared.runtime.broker import BrokerConfig
from shared.runtime.credentials import Authority, create_authority
from shared.runtime.permissions import (
    BOT_HOST_SENDER,
    GATEWAY_SENDER,
    MESSENGER_SENDER,
    ORCHESTRATOR_SENDER,
    SCHEDULER_SENDER,
)
from shared.runtime.settings import DURABILITIES

CLIENT_PORT: Final = 4222
MONITOR_PORT: Final = 8222
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - inside the stack's own network; nothing of it is published

FOLDERS: Final = {
    "gateway": GATEWAY_SENDER,
    "orchestrator": ORCHESTRATOR_SENDER,
    "messenger": MESSENGER_SENDER,
    "scheduler": SCHEDULER_SENDER,
    "bots": BOT_HOST_SENDER,
}
"""Each container mounts one folder of keys, and finds its own user in it."""


@click.command()
@click.option("--authority", type=click.Path(path_type=Path), required=True, help="All keys; only for `ops`.")
@click.option("--keys", type=click.Path(path_type=Path), required=True, help="One folder for each container.")
@click.option("--broker", type=click.Path(path_type=Path), required=True, help="The broker's configuration.")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Its store, as it sees it.")
@click.option("--durability", type=click.Choice(DURABILITIES), default="fsync", envvar="HIVE_DURABILITY")
def init(authority: Path, keys: Path, broker: Path, store: Path, durability: str) -> None:
    """Make what is missing of the keys, and write the configuration that the broker starts with."""
    made = create_authority(authority)
    for folder, sender in FOLDERS.items():
        _hand_over(made, keys / folder, sender)
    made.bot_signer().save(keys / "bots" / made.signer_path.name)
    config = BrokerConfig(
        authority=made,
        store_dir=store,
        durability=durability,
        host=EVERYWHERE,
        port=CLIENT_PORT,
        monitor_host=EVERYWHERE,
        monitor_port=MONITOR_PORT,
    )
    private.make_folder(broker)
    private.write(broker / "nats.conf", config.render())
    click.echo(f"keys for {', '.join(FOLDERS)}; durability {durability}")


def _hand_over(authority: Authority, folder: Path, sender: str) -> None:
    """The credentials of one sender, where only its container looks."""
    private.make_folder(folder)
    private.write(folder / f"{sender}.creds", authority.creds_path(sender).read_text())


if __name__ == "__main__":
    init()
