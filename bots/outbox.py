"""What a bot sends: a single command at once; what comes together, or waits together, as one parcel.

While a message is on its way to a service's queue, what is to follow it there is collected. So an idle bot
waits for nothing, and a busy one pays one store, one delivery and one ack for up to 64 commands. What nobody
waits for (a message was read) is collected for PAUSE_S after the last message that left.
"""

import asyncio
import logging
from collections import defaultdict, deque
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from bots.post import Letter, letter, parcel, store
from shared.contracts.naming import REPLY_HEADER
from shared.kernel.errors import Rejected, Unavailable
from shared.kernel.messages import PARCEL_MAX, AlreadySo, Command, Committed, Failed, Outcome, Refused
from shared.runtime.connection import Connection, status_of
from shared.runtime.ids import new_id

PARCEL_BYTES_MAX: Final = 500_000
WAITING_MAX: Final = 1_000  # commands; who sends more waits until there is room
FLIGHTS_MAX: Final = 4  # messages to one service whose outcomes are awaited at a time
DECIDED_WITHIN_S: Final = 2.0  # then it is asked again, after twice the time each time
AGAIN_MAX_S: Final = 8.0
PAUSE_S: Final = 0.1  # between two messages for which nobody waits; what comes meanwhile goes together
PAUSE_COMMANDS: Final = 16  # so many do not wait any longer

_One = Committed | AlreadySo | Refused | Failed
_outcomes = msgspec.json.Decoder(_One | list[_One])
_log = logging.getLogger(__name__)


class Waiting:
    """One command whose sender waits: for its outcome, or (`asks` False) until it is stored."""

    __slots__ = ("asks", "ended", "lane", "letter", "times")

    def __init__(self, letter: Letter, lane: str | None, *, asks: bool) -> None:
        self.letter = letter
        self.lane = lane
        self.asks = asks
        self.times = 0  # how often it was sent
        self.ended: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Outcome | None) -> None:
        """Its sender need not wait any more."""
        if not self.ended.done():
            self.ended.set_result(outcome)

    def fail(self, error: Unavailable) -> None:
        """Nobody will know."""
        if not self.ended.done():
            self.ended.set_exception(error)


class Line:
    """What waits to be sent to one service, in order; of a lane, only what follows nothing that is out."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._lanes_out: set[str] = set()

    def add(self, waiting: Waiting) -> None:
        """It comes last."""
        self._waiting.append(waiting)

    def is_patient(self) -> bool:
        """Whether what waits may wait a little longer for others: it is little, and asks for no outcome."""
        return len(self._waiting) < PAUSE_COMMANDS and not any(each.asks for each in self._waiting)

    def take(self, *, asking: bool) -> list[Waiting]:
        """What leaves together now; with `asking` False only what awaits no outcome."""
        taken: list[Waiting] = []
        left: deque[Waiting] = deque()
        held = set(self._lanes_out)
        size = 0
        while self._waiting and len(taken) < PARCEL_MAX:
            waiting = self._waiting.popleft()
            if waiting.ended.done():  # its sender was cancelled, or heard a late answer
                continue
            fits = not taken or size + len(waiting.letter.data) <= PARCEL_BYTES_MAX
            if fits and waiting.lane not in held and (asking or not waiting.asks):
                taken.append(waiting)
                size += len(waiting.letter.data)
            else:
                left.append(waiting)
                if waiting.lane is not None:
                    held.add(waiting.lane)  # what follows it does not overtake it
        self._waiting.extendleft(reversed(left))
        self._lanes_out.update(each.lane for each in taken if each.lane is not None)
        return taken

    def give_up(self, error: Unavailable) -> None:
        """Nothing of it will be sent."""
        for waiting in self._waiting:
            waiting.fail(error)
        self._waiting.clear()

    def end(self, taken: list[Waiting]) -> None:
        """They are out no more; those that have not ended wait again, before all others."""
        self._lanes_out.difference_update(each.lane for each in taken if each.lane is not None)
        self._waiting.extendleft(each for each in reversed(taken) if not each.ended.done())


class Outbox:
    """Speaks for one bot, to any service.

    Commands with the same `lane` stay in order: one leaves only when the outcome of the one before is known,
    or right behind it in the same parcel.
    """

    def __init__(self, connection: Connection, *, waiting_max: int = WAITING_MAX) -> None:
        self._connection = connection
        self._room = asyncio.Semaphore(waiting_max)
        self._lines: defaultdict[str, Line] = defaultdict(Line)
        self._looking: set[str] = set()
        self._pausing: dict[str, asyncio.TimerHandle] = {}
        self._storing: set[str] = set()
        self._closed = False
        self._asking: defaultdict[str, int] = defaultdict(int)
        self._asked: dict[str, Waiting] = {}
        self._reply_to = ""
        self._flights: set[asyncio.Task[None]] = set()

    async def send(
        self, command: Command, *, command_id: str, chain: str, lane: str | None = None
    ) -> Outcome:
        """What the owner decided; asks, with the same id, until that is known."""
        outcome = await self._send(command, command_id, chain, lane, asks=True)
        assert outcome is not None
        return outcome

    async def store(self, command: Command, *, command_id: str, chain: str, lane: str | None = None) -> None:
        """Returns when the command is stored; what is decided about it, the owner knows."""
        await self._send(command, command_id, chain, lane, asks=False)

    def close(self) -> None:
        """Send nothing more; who still waits is told that nobody knows."""
        self._closed = True
        for pause in self._pausing.values():
            pause.cancel()
        for flight in self._flights:
            flight.cancel()
        for line in self._lines.values():
            line.give_up(_closed())
        self._connection.replies.forget(self._reply_to)

    async def _send(
        self, command: Command, command_id: str, chain: str, lane: str | None, *, asks: bool
    ) -> Outcome | None:
        if self._closed:
            raise _closed()
        sent = letter(command, sender=self._connection.sender, command_id=command_id, chain=chain)
        if len(sent.data) > self._connection.nc.max_payload:
            raise Rejected("command_too_large", f"{len(sent.data)} bytes are too many for one command")
        async with self._room:
            waiting = Waiting(sent, lane, asks=asks)
            self._lines[command.service].add(waiting)
            self._look_soon(command.service)
            try:
                return await waiting.ended
            finally:
                self._asked.pop(command_id, None)

    def _look_soon(self, service: str) -> None:
        """Look when all that comes in this moment has come: what ends together is told together."""
        if service not in self._looking:
            self._looking.add(service)
            asyncio.get_running_loop().call_soon(self._look, service)

    def _look(self, service: str) -> None:
        """Let go what may go, if nothing is being stored there just now, and nothing gains by a pause."""
        self._looking.discard(service)
        if service in self._storing or self._closed:
            return
        if service in self._pausing and self._lines[service].is_patient():
            return
        taken = self._lines[service].take(asking=self._asking[service] < FLIGHTS_MAX)
        if taken:
            self._storing.add(service)
            self._pause(service)
            # Its owner is this outbox: it ends with the outcomes, or with close().
            flight = asyncio.create_task(self._fly(service, taken))  # noqa: TID251
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    def _pause(self, service: str) -> None:
        """What nobody waits for is collected for a while: each message to a queue is two syncs of a disk."""
        if (running := self._pausing.get(service)) is not None:
            running.cancel()
        self._pausing[service] = asyncio.get_running_loop().call_later(PAUSE_S, self._end_pause, service)

    def _end_pause(self, service: str) -> None:
        del self._pausing[service]
        self._look(service)

    async def _fly(self, service: str, taken: list[Waiting]) -> None:
        """Bring one message to its queue, and its outcomes back."""
        asking = [each for each in taken if each.asks]
        self._asking[service] += bool(asking)
        try:
            try:
                await self._store(taken, asking)
            finally:
                self._storing.discard(service)
            for each in taken:
                if not each.asks:
                    each.end(None)
            self._look(service)
            if asking:
                await _outcomes_of(asking)
        except asyncio.CancelledError:
            for each in taken:
                each.fail(_closed())
            raise
        finally:
            self._asking[service] -= bool(asking)
            self._lines[service].end(taken)
        self._look(service)

    async def _store(self, taken: list[Waiting], asking: list[Waiting]) -> None:
        sent = parcel([each.letter for each in taken])
        if not asking:
            await store(self._connection, sent)
            return
        for each in asking:
            each.times += 1
            self._asked[each.letter.id] = each
        # A message id that a queue has seen is swallowed, and nobody would answer: it is a new one each time.
        await store(self._connection, sent, message_id=new_id(), **{REPLY_HEADER: self._reply()})

    def _reply(self) -> str:
        if not self._reply_to:
            self._reply_to = self._connection.replies.expect(self._hear)
        return self._reply_to

    def _hear(self, message: Msg) -> None:
        if status_of(message):
            return
        try:
            told = _outcomes.decode(message.data)
        except msgspec.DecodeError as error:
            _log.warning("an answer cannot be read: %s", error)
            return
        for outcome in told if isinstance(told, list) else [told]:
            asked = self._asked.get(outcome.command_id)
            if asked is not None:
                asked.end(outcome)


async def _outcomes_of(asking: list[Waiting]) -> None:
    """Wait for the outcomes; what is not decided in time is left to be asked again, later each time."""
    times = max(each.times for each in asking)
    within_s = min(AGAIN_MAX_S, DECIDED_WITHIN_S * 2 ** (times - 1))
    _, unknown = await asyncio.wait([each.ended for each in asking], timeout=within_s)
    if unknown:
        _log.info("%d commands are not decided after %g s: asking again", len(unknown), within_s)


def _closed() -> Unavailable:
    return Unavailable("the outbox was closed: the outcome is unknown")
