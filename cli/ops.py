"""The container that answers for a stack's broker: makes streams and consumers, cuts off who is retired.

It alone holds the keys of the hive's account. It is ready when the broker is, so that others can wait for it.
"""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

import click
import msgspec

from shared.kernel.errors import Unavailable
from shared.runtime import settings as settings_of
from shared.runtime import telemetry, topology
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.credentials import Authority, create_authority
from shared.runtime.permissions import OPS, SYSTEM_SENDER
from shared.runtime.prepare import hand_out_after_restart, prepare
from shared.runtime.probes import Probes
from shared.runtime.revocation import serve_revocations

STARTS_WITHIN_S: Final = 120.0
_log = logging.getLogger(__name__)


class Watch:
    """One broker, and whether it is well."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._settings = settings_of.load(sender=OPS)
        self._connection: Connection | None = None
        self._prepared = False

    async def run(self) -> None:
        """Until a signal."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        probes = Probes(self._problems)
        await probes.start(self._settings.probe_host, self._settings.probe_port)
        self._connection = await self._connect(OPS)
        system = await self._connect(SYSTEM_SENDER)
        try:
            await prepare(self._connection, replicas=self._settings.replicas)
            await self._hand_out()
            self._connection.on_reconnect(self._hand_out)
            await serve_revocations(self._connection, system, self._authority)
            self._prepared = True
            _log.info("streams and consumers are there")
            await self._until(stop, self._connection.closed, system.closed)
        finally:
            await probes.stop()
            await system.close()
            await self._connection.close()

    async def _connect(self, sender: str) -> Connection:
        settings = msgspec.structs.replace(
            self._settings, sender=sender, creds=self._authority.creds_path(sender)
        )
        return await connect(settings, within=STARTS_WITHIN_S)

    async def _hand_out(self) -> None:
        """The broker was started, perhaps because its disk was full: nothing may be stuck in its queues."""
        assert self._connection is not None
        await hand_out_after_restart(self._connection)

    @staticmethod
    async def _until(stop: asyncio.Event, *closed: asyncio.Event) -> None:
        """Return when asked to; Unavailable when the broker lets one of its connections go for good."""
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait()) for event in (stop, *closed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not stop.is_set():
            raise Unavailable("the broker does not let this container in any more")

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
    except (topology.Drift, BrokerRefused, Unavailable) as error:
        _log.critical("%s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    ops()
