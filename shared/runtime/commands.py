"""Sends commands durably, and hears what became of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.contracts.naming import REPLY_HEADER, command_subject
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import AlreadySo, Command, Committed, Envelope, Failed, Outcome, Refused
from shared.runtime import telemetry
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.ids import new_id
from shared.runtime.publish import Publisher
from shared.runtime.waves import Waves

OUTCOME = msgspec.json.Decoder(Committed | AlreadySo | Refused | Failed)
_STREAM_FULL = frozenset({10047, 10077, 10122, 10123})


class QueueFull(Unavailable):
    """The owner's queue takes no more now. Nothing was stored; ask again later."""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """One command to send. Without an id it gets a new one; without a chain it begins one."""

    command: Command
    actor: str
    command_id: str | None = None
    chain: str | None = None


class Send(Protocol):
    """A durable command. The outcome, or None: it is stored, but was not decided within `wait_s`."""

    async def __call__(
        self,
        command: Command,
        *,
        actor: str,
        command_id: str | None = None,
        chain: str | None = None,
        wait_s: float = 2.0,
    ) -> Outcome | None:
        """Raises QueueFull when nothing was stored, Unavailable when that is unknown."""
        ...

    async def many(
        self, sendings: Sequence[Sending], *, wait_s: float = 2.0
    ) -> list[Outcome | Unavailable | None]:
        """Each one's outcome, in order; what could not be stored is an Unavailable in its place."""
        ...


class Sender:
    """Send over JetStream: publishes to the owner's queue, hears outcomes on one inbox."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self._inbox = connection.inbox()
        self._waves: dict[str, Waves] = {}
        self._waiting: dict[str, _Expected] = {}

    async def start(self) -> None:
        """Listen for outcomes."""
        await self._connection.subscribe(f"{self._inbox}.*", self._on_outcome)

    async def __call__(
        self,
        command: Command,
        *,
        actor: str,
        command_id: str | None = None,
        chain: str | None = None,
        wait_s: float = 2.0,
    ) -> Outcome | None:
        """Store one command and wait for its outcome."""
        message_id = command_id or new_id()
        answered = self._expect(message_id)
        try:
            with telemetry.span("send", kind=type(command).__name__):
                await self._store(command, message_id, actor, chain)
                return await _within(answered, wait_s)
        finally:
            self._let_go(message_id)

    async def many(
        self, sendings: Sequence[Sending], *, wait_s: float = 2.0
    ) -> list[Outcome | Unavailable | None]:
        """Store many at once, then wait for all the outcomes together."""
        ids = [sending.command_id or new_id() for sending in sendings]
        expected = [self._expect(message_id) for message_id in ids]
        try:
            async with asyncio.TaskGroup() as group:
                stores = [
                    group.create_task(self._try_to_store(each, message_id))
                    for each, message_id in zip(sendings, ids, strict=True)
                ]
            failures = [store.result() for store in stores]
            stored = [each for each, failure in zip(expected, failures, strict=True) if failure is None]
            if stored and wait_s > 0:
                await asyncio.wait(stored, timeout=wait_s)
            return [
                answered.result() if answered.done() else failure
                for answered, failure in zip(expected, failures, strict=True)
            ]
        finally:
            for message_id in ids:
                self._let_go(message_id)

    def _expect(self, message_id: str) -> asyncio.Future[Outcome]:
        """Who sends the same command at the same time waits for the same outcome: only one is told."""
        expected = self._waiting.get(message_id)
        if expected is None:
            expected = self._waiting[message_id] = _Expected(asyncio.get_running_loop().create_future())
        expected.callers += 1
        return expected.answered

    def _let_go(self, message_id: str) -> None:
        expected = self._waiting[message_id]
        expected.callers -= 1
        if expected.callers == 0:
            del self._waiting[message_id]

    async def _store(self, command: Command, message_id: str, actor: str, chain: str | None) -> None:
        envelope = Envelope(
            id=message_id, chain=chain or message_id, actor=actor, command=msgspec.Raw(encode(command))
        )
        headers = {REPLY_HEADER: f"{self._inbox}.{message_id}", **telemetry.outgoing()}
        subject = command_subject(command.service, self._connection.sender, command.key)
        waves = self._waves.get(command.service)
        if waves is None:
            waves = self._waves[command.service] = Waves(self._publisher)
        try:
            await waves.publish(subject, encode(envelope), headers, msg_id=message_id)
        except BrokerRefused as refused:
            raise _unavailable(refused) from refused

    async def _try_to_store(self, sending: Sending, message_id: str) -> Unavailable | None:
        try:
            await self._store(sending.command, message_id, sending.actor, sending.chain)
        except Unavailable as unavailable:
            return unavailable
        return None

    async def _on_outcome(self, message: Msg) -> None:
        expected = self._waiting.get(message.subject.rpartition(".")[2])
        if expected is not None and not expected.answered.done():
            expected.answered.set_result(OUTCOME.decode(message.data))


@dataclass(slots=True)
class _Expected:
    """An outcome that is waited for, and by how many."""

    answered: asyncio.Future[Outcome]
    callers: int = 0


async def _within(answered: asyncio.Future[Outcome], wait_s: float) -> Outcome | None:
    if wait_s <= 0 and not answered.done():
        return None
    await asyncio.wait([answered], timeout=wait_s)
    return answered.result() if answered.done() else None


def _unavailable(refused: BrokerRefused) -> Unavailable:
    if refused.code in _STREAM_FULL:
        return QueueFull(f"the queue is full ({refused.code}): {refused.description}")
    return Unavailable(f"the broker refused the command ({refused.code}): {refused.description}")
