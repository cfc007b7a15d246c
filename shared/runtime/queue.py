"""A service's command queue at work: pull, decide, answer, ack. The order of these is part of the promise."""

import asyncio
import contextlib
import logging
from typing import Final

from shared.contracts.naming import parse_stored_command
from shared.contracts.words import ACK_WAIT
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected, Unavailable, Undecodable
from shared.kernel.messages import AlreadySo, Committed, Failed, Outcome, Refused
from shared.runtime import metrics, telemetry
from shared.runtime.alone import Alone
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection
from shared.runtime.dead import DeadLetterBox
from shared.runtime.ids import derived_id, jittered
from shared.runtime.intake import Intake, Request
from shared.runtime.pull import Delivery, PullConsumer
from shared.runtime.refusals import Refusals
from shared.runtime.suspects import MARKS_MAX, WATCHED_FROM_DELIVERY, Suspects

FAILURES_MAX: Final = 5
IN_HAND_MAX: Final = 512  # commands being decided at a time: what one atomic batch of commits can carry
PROGRESS_EVERY_S: Final = ACK_WAIT.total_seconds() / 4
_log = logging.getLogger(__name__)


class CommandQueue:
    """Decides what its consumer delivers, until it is stopped."""

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
        self._working: dict[int, Delivery] = {}
        self._in_hand = 0
        self._place_free = asyncio.Event()
        self._failures: dict[int, int] = {}
        self._alone = Alone()

    async def run(self, consumer: PullConsumer) -> None:
        """Work until cancelled, when the seat is lost. What is unfinished is delivered to the next holder."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_alive())
                async for deliveries in consumer.batches():
                    fresh = {each.sequence: each for each in deliveries if each.sequence not in self._working}
                    self._working.update((each.sequence, each) for each in deliveries)
                    for delivery in fresh.values():
                        while self._in_hand >= IN_HAND_MAX:
                            self._place_free.clear()
                            await self._place_free.wait()
                        self._in_hand += 1
                        group.create_task(self._work(delivery))
        finally:
            self._working.clear()
            await consumer.stop()

    async def _keep_alive(self) -> None:
        old: set[int] = set()
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            for sequence in old & self._working.keys():
                if (delivery := self._working.get(sequence)) is not None:
                    with contextlib.suppress(Unavailable):  # else it is delivered again, which is as good
                        await delivery.progress()
            old = set(self._working)

    async def _work(self, delivery: Delivery) -> None:
        began = monotonic()
        try:
            if delivery.delivered >= WATCHED_FROM_DELIVERY:
                async with self._alone.by_itself():
                    await self._work_marked(delivery)
            else:
                async with self._alone.with_others():
                    await self._decide(delivery)
            self._failures.pop(delivery.sequence, None)
        except Unavailable as away:
            _log.warning("put back: %s", away)
            await self._put_back(delivery, jittered(1.0))
        except Exception as error:  # noqa: BLE001 - one command's unexpected failure must not end the others
            await self._failed(delivery, error)
        finally:
            self._working.pop(delivery.sequence, None)
            self._in_hand -= 1
            self._place_free.set()
            metrics.DECISION_SECONDS.labels(self._service).observe(monotonic() - began)

    async def _work_marked(self, delivery: Delivery) -> None:
        marks = await self._suspects.marks(delivery.sequence)
        if marks >= MARKS_MAX:
            await self._bury(delivery, f"kills_its_process: begun {marks} times, never ended")
            return
        await self._suspects.begin(delivery.sequence, marks)
        try:
            await self._decide(delivery)
        finally:
            await self._suspects.end(delivery.sequence)

    async def _decide(self, delivery: Delivery) -> None:
        try:
            request = self._intake.read(delivery.subject, delivery.headers, delivery.data)
        except Undecodable as undecodable:
            await self._bury(delivery, f"undecodable: {undecodable}")
            return
        except Rejected as rejected:
            metrics.REFUSED_SENDERS.labels(self._service).inc()
            await self._refusals.count(parse_stored_command(delivery.subject).sender, str(rejected))
            await self._current(delivery).ack_confirmed()
            return
        name = type(request.command).__name__
        with telemetry.span("decide", incoming=delivery.headers, command=name):
            outcome = await request.handler.handle(
                request.command, request.cause, command_id=request.envelope.id
            )
        metrics.DECISIONS.labels(self._service, name, type(outcome).__name__).inc()
        match outcome:
            case Refused():
                await self._refusals.record(request, outcome)
                await self._current(delivery).ack_confirmed()
                await self._answer(request, outcome)
            case Committed() | AlreadySo() | Failed():
                await self._answer(request, outcome)
                await self._current(delivery).ack()

    async def _failed(self, delivery: Delivery, error: Exception) -> None:
        failures = self._failures[delivery.sequence] = self._failures.get(delivery.sequence, 0) + 1
        _log.exception(
            "deciding failed (%d of %d): %s", failures, FAILURES_MAX, delivery.subject, exc_info=error
        )
        try:
            if failures >= FAILURES_MAX:
                await self._bury(delivery, f"failed: {type(error).__name__}: {error}", attempts=failures)
            else:
                await self._put_back(delivery, jittered(0.2 * 2**failures))
        except Unavailable as away:
            _log.warning("the broker is away: %s", away)

    async def _put_back(self, delivery: Delivery, after_s: float) -> None:
        with contextlib.suppress(Unavailable):  # else it is delivered again when its ack wait ends
            await self._current(delivery).nak(after_s)

    async def _bury(self, delivery: Delivery, reason: str, attempts: int = 1) -> None:
        """Dead letter first, then the ack: in between a crash leaves both, never neither."""
        letter_id = derived_id("dead", self._service, str(delivery.sequence), delivery.subject)
        await self._dead.put(
            letter_id,
            subject=delivery.subject,
            headers=delivery.headers,
            body=delivery.data,
            reason=reason,
            attempts=attempts,
        )
        self._failures.pop(delivery.sequence, None)
        await self._current(delivery).ack_confirmed()
        try:
            request = self._intake.read(delivery.subject, delivery.headers, delivery.data)
        except (Undecodable, Rejected):
            return
        await self._answer(
            request, Failed(command_id=request.envelope.id, dead_letter=letter_id, detail=reason)
        )

    async def _answer(self, request: Request, outcome: Outcome) -> None:
        if request.reply_to is not None:
            await self._connection.publish(request.reply_to, encode(outcome))

    def _current(self, delivery: Delivery) -> Delivery:
        """The newest delivery of the same message: its ack is the one that counts."""
        return self._working.get(delivery.sequence, delivery)
