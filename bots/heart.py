"""The heartbeat: a request each second, and at once when something was taken; its answers are the lease."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from bots.lease import LASTS_S, Lease, lost
from bots.pace import first_beat, next_beat
from shared.contracts.naming import heartbeat_subject
from shared.contracts.orchestrator.protocol import Heartbeat, HeartbeatAnswer
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection, status_of
from shared.runtime.ids import jittered

SOON_S: Final = 0.005
"""So long a heartbeat for what was just taken waits for more to name. What ends sooner needs none: its report
says that it was taken."""

LATE_MAX_S: Final = 0.5
"""A beat may come so much late before the end of the lease is watched late, too."""

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
    """Beats until cancelled: one timer, and no task that wakes up."""

    def __init__(self, connection: Connection, bot_id: str, body: Body) -> None:
        self.lease = Lease()
        self._connection = connection
        self._subject = heartbeat_subject(bot_id)
        self._body = body
        self._numbers = count()
        self._unanswered: dict[int, tuple[str, float]] = {}
        self._next_at = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._cut_off_at: float | None = None

    async def run(self) -> None:
        """Beat each second, the first time now."""
        try:
            self._next_at = first_beat(monotonic(), jittered)
            self._wait_for_next()
            self.now()
            await asyncio.get_running_loop().create_future()
        finally:
            for timer in (self._next, self._soon, self._cut_off):
                if timer is not None:
                    timer.cancel()

    def soon(self) -> None:
        """Something was taken: say so, together with what is taken in the same moment."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._on_soon)

    def now(self) -> None:
        """Send one heartbeat: something changed that the owner should know before the second is over."""
        now = monotonic()
        self._forget_older_than(now - LASTS_S)
        self._watch_the_end(now)
        if not self._connection.connected:
            return  # it would be sent later, and say what is no longer so
        heartbeat = self._body.heartbeat()
        number = next(self._numbers)
        reply = self._connection.replies.expect(self._hearing(number, heartbeat))
        self._unanswered[number] = (reply, now)
        try:
            self._connection.say(self._subject, encode(heartbeat), reply)
        except Unavailable:
            self._forget(number)

    def _on_time(self) -> None:
        self._next_at = next_beat(self._next_at, monotonic())
        self._wait_for_next()
        self.now()

    def _wait_for_next(self) -> None:
        wait_s = self._next_at - monotonic()
        self._next = asyncio.get_running_loop().call_later(wait_s, self._on_time)

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
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None
        self._watch_the_end(monotonic())

    def _watch_the_end(self, now: float) -> None:
        """Have a timer for the end of the lease, if it comes before we look again."""
        ends_at = self.lease.ends_at()
        if self._cut_off is not None or ends_at is None or ends_at == self._cut_off_at:
            return
        if ends_at <= self._next_at + LATE_MAX_S:
            wait_s = max(0.0, ends_at - now)
            self._cut_off = asyncio.get_running_loop().call_later(wait_s, self._on_end, ends_at)

    def _on_end(self, ended_at: float) -> None:
        self._cut_off = None
        self._cut_off_at = ended_at
        self._body.on_cut_off()

    def _on_soon(self) -> None:
        self._soon = None
        if self._body.has_news():
            self.now()

    def _forget(self, number: int) -> None:
        reply, _ = self._unanswered.pop(number)
        self._connection.replies.forget(reply)

    def _forget_older_than(self, moment: float) -> None:
        for number in [number for number, (_, sent_at) in self._unanswered.items() if sent_at < moment]:
            self._forget(number)
