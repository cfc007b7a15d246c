"""A bare owner of a queue that takes what it is given and acknowledges nothing."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.contracts.naming import command_consumer, command_stream, command_subject
from tests.support.nats_server import LocalBroker

SERVICE: Final = "orchestrator"
CONSUMER: Final = f"{command_stream(SERVICE)}.{command_consumer(SERVICE, 'blue')}"
PULL: Final = b'{"batch":100,"expires":60000000000}'
WITHIN_S: Final = 30.0
PULL_AGAIN_S: Final = 3.0


class Holder:
    """One owner, as blue."""

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker
        self._stack = AsyncExitStack()
        self._arrivals: Subscription

    async def __aenter__(self) -> Self:
        self._owner = await self._stack.enter_async_context(
            self._broker.client(f"svc-{SERVICE}", allow_reconnect=True, reconnect_time_wait=0.1)
        )
        self._inbox = self._owner.new_inbox()
        self._arrivals = await self._owner.subscribe(self._inbox)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def pull(self) -> None:
        """Ask for all there is, and all that comes."""
        await self._owner.publish(f"$JS.API.CONSUMER.MSG.NEXT.{CONSUMER}", PULL, reply=self._inbox)

    async def take_one(self) -> None:
        """Let there be a command, and hold it until the broker says that it came a second time."""
        async with self._broker.client("gateway") as gateway:
            await gateway.request(command_subject(SERVICE, "gateway", "t1"), b"a command", timeout=WITHIN_S)
        await self.pull()
        while await self._delivered() < 2:
            pass

    async def is_given_it_as_if_new(self) -> None:
        """Return when it is delivered as if never before: since it was asked, not since its time was over."""
        await self.pull()
        while await self._delivered() > 1:
            pass

    async def _delivered(self) -> int:
        """Of the next delivery: the how manieth of its command it is."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    message: Msg = await self._arrivals.next_msg(PULL_AGAIN_S)
                except nats.errors.TimeoutError:  # the broker that was asked is gone
                    await self.pull()
                    continue
                if message.data:  # else it says that a pull has ended
                    return message.metadata.num_delivered
