"""A real broker for a test: own keys, own store, a free port; a fresh one starts in 50 ms."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from shared.contracts import naming
from shared.runtime.broker import BrokerConfig, BrokerProcess
from shared.runtime.credentials import create_authority
from shared.runtime.settings import Settings, load

FILE_BYTES_MAX = 8 * 1024**3  # reserved by streams, not used


class LocalBroker:
    """One running server. `settings(sender)` is all that a process of ours needs to connect to it."""

    def __init__(self, folder: Path, *, durability: str = "os") -> None:
        self.folder = folder
        self.authority = create_authority(folder / "keys")
        self.signer = self.authority.bot_signer()
        self.keys: dict[str, str] = {}
        config = BrokerConfig(
            authority=self.authority,
            store_dir=folder / "store",
            durability=durability,
            file_bytes_max=FILE_BYTES_MAX,
        )
        self.process = BrokerProcess.start(config, folder / "run", folder / "nats.log")
        self.process.wait_ready()

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def monitor_url(self) -> str:
        return self.process.monitor_url

    def settings(self, sender: str, **more: Any) -> Settings:
        """`ops`, `gateway`, `svc-<service>`, or `bot-<id>`, whose user is made on first use."""
        defaults = {"instance": f"{sender}-test", "durability": "os", "data": self.folder / "data", **more}
        return load({}, sender=sender, nats_url=self.url, creds=self.creds(sender), **defaults)

    def creds(self, sender: str) -> Path:
        path = self.authority.creds_path(sender)
        if sender.startswith("bot-") and not path.exists():
            text, self.keys[sender] = self.signer.mint(sender.removeprefix("bot-"))
            path.write_text(text)
        return path

    @asynccontextmanager
    async def client(self, sender: str, **options: Any) -> AsyncIterator[Client]:
        """A bare nats-py connection, as that sender."""
        inbox = naming.inbox_prefix(sender).encode()
        options = {"allow_reconnect": False, "error_cb": _ignore, **options}
        client = await nats.connect(
            self.url, user_credentials=str(self.creds(sender)), inbox_prefix=inbox, **options
        )
        try:
            yield client
        finally:
            await client.close()

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()

    def restart(self) -> None:
        """End it if it runs, and start it again on the same store and port."""
        if self.process.running:
            self.process.stop()
        self.process = self.process.restarted()
        self.process.wait_ready()

    def close(self) -> None:
        if self.process.running:
            self.process.stop()


async def _ignore(_: Exception) -> None:
    """Errors that a test provokes are asserted by the test."""
