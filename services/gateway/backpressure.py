"""What is let into a queue that fills or ages: the less urgent is refused first."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

import msgspec

from shared.contracts.naming import command_stream
from shared.contracts.words import Priority
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Command, Outcome
from shared.runtime.commands import Send, Sending
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.problems import QueueBusy

SHARE_MAX: Final = {Priority.P3: 0.5, Priority.P2: 0.7, Priority.P1: 0.85, Priority.P0: 0.95}
AGE_MAX_S: Final = 5.0
PATIENT: Final = frozenset({Priority.P2, Priority.P3})
LOOK_EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """How full a command queue is. `bytes_max` -1: no limit."""

    messages: int = 0
    bytes: int = 0
    bytes_max: int = -1
    oldest_s: float = 0.0

    @property
    def share(self) -> float:
        """The part of the limit that is in use."""
        return self.bytes / self.bytes_max if self.bytes_max > 0 else 0.0


def refusal(load: Load, priority: Priority) -> str | None:
    """Why nothing of this priority is let in now; None when it is."""
    if load.share >= SHARE_MAX[priority]:
        return (
            f"the queue is {load.share:.0%} full, and takes no {priority} from {SHARE_MAX[priority]:.0%} on"
        )
    if priority in PATIENT and load.oldest_s > AGE_MAX_S:
        return f"a command waits for {load.oldest_s:.0f} s; above {AGE_MAX_S:.0f} s no {priority} is taken"
    return None


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_ts: datetime


class _Limits(msgspec.Struct):
    max_bytes: int = -1


class _Info(msgspec.Struct):
    config: _Limits
    state: _State
    ts: datetime


def load_of(info: bytes) -> Load:
    """The load that a STREAM.INFO answer tells, by the broker's own clock."""
    told = msgspec.json.decode(info, type=_Info)
    oldest_s = (told.ts - told.state.first_ts).total_seconds() if told.state.messages else 0.0
    return Load(told.state.messages, told.state.bytes, told.config.max_bytes, max(0.0, oldest_s))


class Pressure:
    """The load of each service's queue, looked at once a second."""

    def __init__(self, connection: Connection, services: Sequence[str]) -> None:
        self._connection = connection
        self._services = services
        self._loads: dict[str, Load] = {}

    @property
    def loads(self) -> Mapping[str, Load]:
        """By service; one that could not be asked yet is missing."""
        return self._loads

    async def watch(self) -> NoReturn:
        """Look, for ever."""
        while True:
            for service in self._services:
                with contextlib.suppress(Unavailable):
                    await self._look(service)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, service: str) -> None:
        try:
            info = await self._connection.api(f"STREAM.INFO.{command_stream(service)}")
        except BrokerRefused as refused:
            _log.warning("the queue of %s cannot be looked at: %s", service, refused)
        else:
            self._loads[service] = load_of(info)


class PressedSend:
    """Send, behind the doorkeeper: only commands with a priority are ever refused."""

    def __init__(self, send: Send, loads: Mapping[str, Load]) -> None:
        self._send = send
        self._loads = loads

    async def __call__(
        self,
        command: Command,
        *,
        actor: str,
        command_id: str | None = None,
        chain: str | None = None,
        wait_s: float = 2.0,
    ) -> Outcome | None:
        """Send it, if it is let in; else QueueBusy."""
        if (busy := self._busy(command)) is not None:
            raise busy
        return await self._send(command, actor=actor, command_id=command_id, chain=chain, wait_s=wait_s)

    async def many(
        self, sendings: Sequence[Sending], *, wait_s: float = 2.0
    ) -> list[Outcome | Unavailable | None]:
        """Send those that are let in; the others are QueueBusy in their places."""
        busy = [self._busy(sending.command) for sending in sendings]
        let_in = [sending for sending, no in zip(sendings, busy, strict=True) if no is None]
        outcomes = iter(await self._send.many(let_in, wait_s=wait_s) if let_in else [])
        return [next(outcomes) if no is None else no for no in busy]

    def _busy(self, command: Command) -> QueueBusy | None:
        priority = getattr(command, "priority", None)
        load = self._loads.get(command.service)
        if load is None or not isinstance(priority, Priority):
            return None
        reason = refusal(load, priority)
        return None if reason is None else QueueBusy(reason)
