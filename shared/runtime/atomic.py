"""An atomic batch: all its messages are stored in a row, or none (ADR-50 of nats-architecture-and-design)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from nats.aio.msg import Msg  # noqa: TID251

from shared.kernel.errors import Unavailable
from shared.runtime.connection import NO_RESPONDERS, BrokerRefused, Connection, status_of
from shared.runtime.ids import short_token
from shared.runtime.publish import decode_answer

BATCH_ID: Final = "Nats-Batch-Id"
BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
BATCH_COMMIT: Final = "Nats-Batch-Commit"
MESSAGES_MAX: Final = 1_000

Message = tuple[str, bytes, Mapping[str, str]]


async def publish_atomically(connection: Connection, messages: Sequence[Message], *, within_s: float) -> int:
    """Store the messages in a row on one stream; the sequence of the last one.

    BrokerRefused: nothing was stored, the code is that of the first fault. Unavailable: nobody knows.
    """
    assert 0 < len(messages) <= MESSAGES_MAX, len(messages)
    if not connection.connected:
        raise Unavailable("the broker is away: not sent")
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hear(message: Msg) -> None:
        if answered.done() or not (message.data or message.headers):
            return  # the batch was begun
        if status_of(message) == NO_RESPONDERS:
            answered.set_exception(Unavailable("no stream takes the batch now"))
            return
        answer = decode_answer(message.data)
        if answer.error is not None:
            answered.set_exception(BrokerRefused(answer.error.err_code, answer.error.description))
        elif answer.count == len(messages):
            answered.set_result(answer.seq)

    reply = connection.replies.expect(hear)
    undo = connection.on_disconnect(lambda: _lost(answered))
    batch_id = short_token(12)
    try:
        for number, (subject, data, headers) in enumerate(messages, 1):
            complete = {**headers, BATCH_ID: batch_id, BATCH_SEQUENCE: str(number)}
            if number == len(messages):
                complete[BATCH_COMMIT] = "1"
            asks = number in {1, len(messages)}
            await connection.publish(subject, data, reply if asks else "", complete)
        async with asyncio.timeout(within_s):
            return await answered
    except TimeoutError as error:
        raise Unavailable("no answer to a batch in time: the outcome is unknown") from error
    finally:
        undo()
        connection.replies.forget(reply)


def _lost(answered: "asyncio.Future[int]") -> None:
    if not answered.done():
        answered.set_exception(Unavailable("the connection broke: the outcome of the batch is unknown"))
