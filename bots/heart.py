"""The heartbeat: a request each second, and at once when something was taken; its answers are the lease."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from bots.lease import LASTS_S, Lease, lost
from shared.contracts.naming import heartbeat_subject
from shared.contracts.orchestrator.protocol import Heartbeat, HeartbeatAnswer
from shared.contracts.words import HEARTBEAT_INTERVAL
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection, status_of

INTERVAL_S: Final = HEARTBEAT_INTERVAL.total_seconds()
SOON_S: Final = 0.005
"""So long a heartbeat for what was just taken waits for more to name. What ends sooner needs none: its report
says that it was taken."""

_answers = msgspec.json.Decoder(HeartbeatAnswer)


class Body(Protocol):
    """What the heart beats for."""

    def heartbeat(self) -> Heartbeat:
        """What is so now."""
        ...

    def has_news(self) -> bool:
        """Whether something is held that no heartbeat has named yet."""
        ...

    def on_answer(self, answer: HeartbeatAnswer, gone: frozenset[int]) -> None:
        """It was answered; `gone` are tokens that were named and are not the bot's any more."""
        ...

    def on_cut_off(self) -> None:
        """No answer came for too long: another bot may get the work."""
        ...


class Heart:
    """Beats until cancelled."""

    def __init__(self, connection: Connection, bot_id: str, body: Body) -> None:
        self.lease = Lease()
        self._connection = connection
        self._subject = heartbeat_subject(bot_id)
        self._body = body
        self._numbers = count()
        self._unanswered: dict[int, tuple[str, float]] = {}
        self._due = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._cut_off: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Beat each second."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._due.clear()
                next_one = loop.call_later(INTERVAL_S, self._due.set)
                await self.beat()
                await self._due.wait()
                next_one.cancel()
        finally:
            for timer in (self._soon, self._cut_off):
                if timer is not None:
                    timer.cancel()

    def soon(self) -> None:
        """Something was taken: say so, together with what is taken in the same moment."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._on_soon)

    def now(self) -> None:
        """Something changed that the owner should know before the second is over."""
        self._due.set()

    async def beat(self) -> None:
        """Send one heartbeat."""
        now = monotonic()
        self._forget_older_than(now - LASTS_S)
        if not self._connection.connected:
            return  # it would be sent later, and say what is no longer so
        heartbeat = self._body.heartbeat()
        number = next(self._numbers)
        reply = self._connection.replies.expect(self._hearing(number, heartbeat))
        self._unanswered[number] = (reply, now)
        try:
            await self._connection.publish(self._subject, encode(heartbeat), reply)
        except Unavailable:
            self._forget(number)

    def _hearing(self, number: int, heartbeat: Heartbeat) -> Callable[[Msg], None]:
        def hear(message: Msg) -> None:
            if number not in self._unanswered:
                return
            _, sent_at = self._unanswered[number]
            self._forget(number)
            if status_of(message):
                return  # nobody listens: that is no answer
            answer = _answers.decode(message.data)
            self._prove(sent_at)
            self._body.on_answer(answer, lost((held.token for held in heartbeat.held), answer.held))

        return hear

    def _prove(self, sent_at: float) -> None:
        self.lease.prove(sent_at)
        ends_at = self.lease.ends_at()
        assert ends_at is not None
        if self._cut_off is not None:
            self._cut_off.cancel()
        loop = asyncio.get_running_loop()
        self._cut_off = loop.call_later(max(0.0, ends_at - monotonic()), self._body.on_cut_off)

    def _on_soon(self) -> None:
        self._soon = None
        if self._body.has_news():
            self._due.set()

    def _forget(self, number: int) -> None:
        reply, _ = self._unanswered.pop(number)
        self._connection.replies.forget(reply)

    def _forget_older_than(self, moment: float) -> None:
        for number in [number for number, (_, sent_at) in self._unanswered.items() if sent_at < moment]:
            self._forget(number)
