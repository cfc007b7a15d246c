"""The container that answers for a stack's broker: makes its streams and consumers, then watches over it.

It alone holds the keys of the hive's account. It is ready when the broker is, so that others can wait for it.
"""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

import click

from shared.kernel.errors import Unavailable
from shared.runtime import settings as settings_of
from shared.runtime import telemetry, topology
from shared.runtime.connection import Connection, connect
from shared.runtime.credentials import Authority, create_authority
from shared.runtime.permissions import OPS
from shared.runtime.probes import Probes

STARTS_WITHIN_S: Final = 120.0
_log = logging.getLogger(__name__)


class Watch:
    """One broker, and whether it is well."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._settings = settings_of.load(sender=OPS, creds=authority.creds_path(OPS))
        self._connection: Connection | None = None
        self._prepared = False

    async def run(self) -> None:
        """Until a signal."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        probes = Probes(self._problems)
        await probes.start(self._settings.probe_host, self._settings.probe_port)
        self._connection = await connect(self._settings, within=STARTS_WITHIN_S)
        try:
            await topology.ensure(self._connection, replicas=self._settings.replicas)
            self._prepared = True
            _log.info("streams and consumers are there")
            await stop.wait()
        finally:
            await probes.stop()
            await self._connection.close()

    def _problems(self) -> list[str]:
        if self._connection is None or not self._connection.connected:
            return ["the broker does not answer"]
        return [] if self._prepared else ["streams and consumers are being made"]


@click.command()
@click.option("--authority", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
def ops(authority: Path) -> None:
    """Prepare the broker and stay; ends with 1 when it is not as this version needs it."""
    telemetry.start_logging(OPS, OPS, "INFO")
    try:
        asyncio.run(Watch(create_authority(authority)).run())
    except (topology.Drift, Unavailable) as error:
        _log.critical("%s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    ops()
