"""A service's command queue at work: pull, decide, answer, ack. The order of these is part of the promise."""

import asyncio
import contextlib
import logging
from typing import Final

from prometheus_client import Counter

from shared.contracts.words import ACK_WAIT
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected, Unavailable, Undecodable
from shared.kernel.messages import Failed, Outcome, Refused
from shared.runtime import metrics, telemetry
from shared.runtime.alone import Alone
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection
from shared.runtime.dead import DeadLetterBox
from shared.runtime.ids import derived_id, jittered
from shared.runtime.intake import Intake, id_of, reply_to_of
from shared.runtime.places import Places
from shared.runtime.pull import PullConsumer
from shared.runtime.refusals import Refusals
from shared.runtime.suspects import MARKS_MAX, WATCHED_FROM_DELIVERY, Suspects
from shared.runtime.unfinished import Stored, Unfinished

FAILURES_MAX: Final = 5
PROGRESS_EVERY_S: Final = ACK_WAIT.total_seconds() / 4
AWAY_S: Final = 1.0  # put back for so long when the log or the broker is away
_log = logging.getLogger(__name__)


class CommandQueue:
    """Decides what its consumer delivers, until it is stopped.

    A message holds one command, or a parcel of them. Its commands are begun in their order, end each by
    itself, and the message is acked when all have: what has ended is remembered if others must come again.
    """

    def __init__(
        self,
        service: str,
        connection: Connection,
        intake: Intake,
        *,
        dead: DeadLetterBox,
        suspects: Suspects,
        refusals: Refusals,
    ) -> None:
        self._service = service
        self._connection = connection
        self._intake = intake
        self._dead = dead
        self._suspects = suspects
        self._refusals = refusals
        self._unfinished = Unfinished()
        self._group: asyncio.TaskGroup
        self._places = Places(self._begin)
        self._place_free = asyncio.Event()
        self._alone = Alone()
        self._seconds = metrics.DECISION_SECONDS.labels(service)
        self._counts: dict[tuple[str, str], Counter] = {}

    async def run(self, consumer: PullConsumer) -> None:
        """Work until cancelled, when the seat is lost. What is unfinished is delivered to the next holder."""
        self._places = Places(self._begin)
        left: list[Stored] = []
        try:
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._keep_alive())
                try:
                    await self._take(consumer)
                finally:
                    left = self._places.close()
        finally:
            for stored in left:
                with contextlib.suppress(Unavailable):  # else it is delivered again when its ack wait ends
                    await stored.delivery.nak(0)
            self._unfinished.clear()
            await consumer.stop()

    async def _take(self, consumer: PullConsumer) -> None:
        async for deliveries in consumer.batches():
            for delivery in deliveries:
                stored = self._unfinished.take(delivery)
                if stored is not None:
                    self._places.add(stored)
            while self._places.full:
                self._place_free.clear()
                await self._place_free.wait()

    def _begin(self, stored: Stored) -> None:
        self._group.create_task(self._work(stored))

    async def _keep_alive(self) -> None:
        in_work = self._unfinished.in_work
        old: set[int] = set()
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            for sequence in old & in_work.keys():
                if (stored := in_work.get(sequence)) is not None:
                    with contextlib.suppress(Unavailable):  # else it is delivered again, which is as good
                        await stored.delivery.progress()
            old = set(in_work)

    async def _work(self, stored: Stored) -> None:
        try:
            if stored.delivery.delivered >= WATCHED_FROM_DELIVERY:
                async with self._alone.by_itself():
                    pauses = [await self._item_marked(stored, place) for place in stored.open_places]
            else:
                async with self._alone.with_others():
                    pauses = await self._items(stored)
            if any(pauses):
                await self._put_back(stored, max(pauses))
            else:
                await self._finish(stored)
        except Unavailable as away:
            _log.warning("put back: %s", away)
            await self._put_back(stored, jittered(AWAY_S))
        finally:
            self._unfinished.leave(stored)
            self._places.free(stored)
            self._place_free.set()

    async def _items(self, stored: Stored) -> list[float]:
        match stored.open_places:
            case [place]:
                return [await self._item(stored, place)]
            case places:
                async with asyncio.TaskGroup() as group:  # they begin in the order of their creation
                    working = [group.create_task(self._item(stored, place)) for place in places]
                return [each.result() for each in working]

    async def _item(self, stored: Stored, place: int) -> float:
        """Bring one command to its end and note that; else after how many seconds it is to come again."""
        began = monotonic()
        try:
            stored.outcomes[place] = await self._end(stored, place)
        except Unavailable as away:
            _log.warning("put back: %s", away)
            return jittered(AWAY_S)
        except Exception as error:  # noqa: BLE001 - one command's unexpected failure must not end the others
            return await self._failed(stored, place, error)
        finally:
            self._seconds.observe(monotonic() - began)
        return 0.0

    async def _item_marked(self, stored: Stored, place: int) -> float:
        try:
            number = stored.numbered(place)
            marks = await self._suspects.marks(stored.sequence, number)
            if marks >= MARKS_MAX:
                reason = f"kills_its_process: begun {marks} times, never ended"
                stored.outcomes[place] = await self._bury(stored, place, reason)
                return 0.0
            await self._suspects.begin(stored.sequence, marks, number)
        except Unavailable as away:
            _log.warning("put back: %s", away)
            return jittered(AWAY_S)
        try:
            return await self._item(stored, place)
        finally:
            await self._suspects.end(stored.sequence, number)

    async def _end(self, stored: Stored, place: int) -> Outcome:
        item = stored.items[place]
        try:
            if stored.flaw:
                raise Undecodable(stored.flaw)  # noqa: TRY301 - it ends as what cannot be read does
            request = self._intake.read(item.subject, item.headers, item.body)
        except Undecodable as undecodable:
            return await self._bury(stored, place, f"undecodable: {undecodable}")
        except Rejected as rejected:
            metrics.REFUSED_SENDERS.labels(self._service).inc()
            await self._refusals.count(stored.sender, str(rejected))
            return Refused(command_id=id_of(item.body), code=rejected.code, detail=rejected.detail)
        name = type(request.command).__name__
        with telemetry.span("decide", incoming=item.headers, command=name):
            outcome = await request.handler.handle(
                request.command, request.cause, command_id=request.envelope.id, once=stored.is_parcel
            )
        self._count(name, type(outcome).__name__)
        if isinstance(outcome, Refused):
            await self._refusals.record(request, outcome)
        return outcome

    def _count(self, name: str, answer: str) -> None:
        counter = self._counts.get((name, answer))
        if counter is None:
            counter = self._counts[name, answer] = metrics.DECISIONS.labels(self._service, name, answer)
        counter.inc()

    async def _failed(self, stored: Stored, place: int, error: Exception) -> float:
        failures = stored.failures[place] = stored.failures.get(place, 0) + 1
        subject = stored.items[place].subject
        _log.exception("deciding failed (%d of %d): %s", failures, FAILURES_MAX, subject, exc_info=error)
        if failures < FAILURES_MAX:
            return jittered(0.2 * 2**failures)
        try:
            reason = f"failed: {type(error).__name__}: {error}"
            stored.outcomes[place] = await self._bury(stored, place, reason, attempts=failures)
        except Unavailable as away:
            _log.warning("the broker is away: %s", away)
            return jittered(AWAY_S)
        return 0.0

    async def _put_back(self, stored: Stored, after_s: float) -> None:
        self._unfinished.put_back(stored)
        with contextlib.suppress(Unavailable):  # else it is delivered again when its ack wait ends
            await stored.delivery.nak(after_s)

    async def _finish(self, stored: Stored) -> None:
        """All its commands have ended. What is on record is acked for sure, before its sender hears of it."""
        if stored.is_on_record:
            await stored.delivery.ack_confirmed()
            await self._answer(stored)
        else:
            await self._answer(stored)
            await stored.delivery.ack()

    async def _bury(self, stored: Stored, place: int, reason: str, attempts: int = 1) -> Failed:
        """Lay one command down as if it had come by itself; its message is acked after that, not before."""
        item, number = stored.items[place], stored.numbered(place)
        subject = item.subject if number is None else self._intake.own_subject(item.subject, item.body)
        which = str(stored.sequence) if number is None else f"{stored.sequence}-{number}"
        letter_id = derived_id("dead", self._service, which, stored.delivery.subject)
        await self._dead.put(
            letter_id,
            subject=subject,
            headers=item.headers,
            body=item.body,
            reason=reason,
            attempts=attempts,
        )
        return Failed(command_id=id_of(item.body), dead_letter=letter_id, detail=reason)

    async def _answer(self, stored: Stored) -> None:
        reply_to = reply_to_of(stored.sender, stored.headers)
        if reply_to is not None:
            await self._connection.publish(reply_to, encode(stored.outcome))
