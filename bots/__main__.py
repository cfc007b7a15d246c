"""Runs the bot host: `python -m bots`."""

import asyncio
import logging
import signal
import sys
from functools import partial
from typing import Final

import uvloop

from bots.host import Host
from bots.identity import chosen_sandbox, own_environment
from bots.launch import Ground
from bots.nursery import Nursery
from bots.sandbox import sandbox_report
from bots.users import Users
from shared.kernel.errors import Unavailable
from shared.runtime import settings as settings_of
from shared.runtime.connection import Connection, connect
from shared.runtime.credentials import SIGNER_FILE, BotSigner, CredentialsError
from shared.runtime.permissions import BOT_HOST_SENDER, REVOKE_SUBJECT
from shared.runtime.probes import Probes
from shared.runtime.settings import Settings, SettingsError
from shared.runtime.telemetry import start_logging
from shared.runtime.zygote import Zygote

WARM: Final = ("bots.runtime", "nkeys")  # nkeys is imported by nats-py when it first signs
STOP_GRACE_S: Final = 8.0
REVOKED_WITHIN_S: Final = 5.0

_log = logging.getLogger(__name__)


def main() -> int:
    """The host's process; a zygote for bots comes with the first of them."""
    try:
        settings = settings_of.load(sender=BOT_HOST_SENDER)
        start_logging("bots", settings.instance, settings.log_level)
        ground, users = prepare(settings)
    except (SettingsError, CredentialsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    nursery = Nursery(lambda: Zygote.start(WARM, name="bot zygote"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return 0 if runner.run(run(ground, users, nursery)) else 1
    finally:
        nursery.close()


def prepare(settings: Settings) -> tuple[Ground, Users]:
    """Measure the box, find the signer and what has to be hidden."""
    environment = own_environment()
    assert settings.creds is not None, "HIVE_CREDS: a host has credentials, and beside them the bots' signer"
    signer = BotSigner.load(settings.creds.parent / SIGNER_FILE)
    data, keys = settings.data.resolve(), settings.creds.parent.resolve()
    hidden = (data,) if keys.is_relative_to(data) else (data, keys)
    sandbox = sandbox_report(chosen_sandbox(environment))
    _log.info("%s", sandbox.sentence)
    return Ground(settings, environment, sandbox, hidden), Users(data / "bots", signer)


async def run(ground: Ground, users: Users, nursery: Nursery) -> bool:
    """Serve until a signal; False when something else ended it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connection: Connection | None = None

    def problems() -> list[str]:
        return [] if connection is not None and connection.connected else ["the broker is not connected"]

    probes = Probes(problems)
    await probes.start(ground.settings.probe_host, ground.settings.probe_port)
    try:
        connection = await connect(ground.settings)
    except Unavailable as error:
        _log.error("%s", error)
        return False
    try:
        host = Host(ground, connection, nursery, users, partial(revoke, connection))
        async with asyncio.TaskGroup() as group:
            closed = group.create_task(_stop_when_closed(connection, stop))
            asked = await host.serve(stop, STOP_GRACE_S)
            closed.cancel()
        return asked and not connection.closed.is_set()
    finally:
        await probes.stop()
        await connection.close()


async def revoke(connection: Connection, user_public_key: str) -> None:
    """Have the holder of the account's key cut this user off; Unavailable: ask again."""
    await connection.request(REVOKE_SUBJECT, user_public_key.encode(), timeout=REVOKED_WITHIN_S)


async def _stop_when_closed(connection: Connection, stop: asyncio.Event) -> None:
    await connection.closed.wait()
    _log.error("the broker does not let this host in any more")
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
