"""Watches the log for the ends of tasks: a task counts as done when its end is in the log, not before."""

import asyncio
from pathlib import Path
from typing import Final, Self

from nats.aio.msg import Msg

from benchmarks.hive import Hive
from shared.contracts import naming
from shared.kernel.codec import encode
from shared.runtime.connection import Connection, connect
from shared.runtime.settings import Settings

COMPLETED: Final = b'"fact":"TaskCompleted"'
NAME: Final = "bench-tail"
PATIENCE_S: Final = 120.0
IDLE_NS: Final = 60 * 1_000_000_000


class Tail:
    """Counts completed tasks from now on, as the user `ops` reads them."""

    def __init__(self, hive: Hive) -> None:
        running = hive.running
        assert running.creds is not None
        self._settings = Settings(
            sender="ops",
            instance=NAME,
            data=hive.data.path,
            nats_url=running.nats_url,
            creds=Path(running.creds),
        )
        self._connection: Connection
        self._seen = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to count."""
        self._connection = await connect(self._settings)
        inbox = self._connection.inbox()
        await self._connection.subscribe(inbox, self._count)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "filter_subject": naming.event_subject("task", "*"),
            "inactive_threshold": IDLE_NS,
            "mem_storage": True,
        }
        body = encode({"stream_name": naming.EVENTS, "config": config})
        await self._connection.api(f"CONSUMER.CREATE.{naming.EVENTS}", body)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; the broker forgets the consumer when nobody listens."""
        await self._connection.close(drain=False)

    async def completed(self, count: int) -> None:
        """Return when so many tasks have been completed since the beginning."""
        self._wanted = count
        if self._seen < count:
            async with asyncio.timeout(PATIENCE_S):
                await self._reached.wait()

    async def _count(self, message: Msg) -> None:
        self._seen += message.data.count(COMPLETED)
        if self._wanted and self._seen >= self._wanted:
            self._reached.set()
