"""What the orchestrator says to bots and hosts, and looks up in its queue: a seam, and its form over NATS."""

from typing import Final, Protocol

import msgspec

from shared.contracts.naming import (
    command_stream,
    control_subject,
    host_subject,
    run_subject,
    waiting_command_filter,
)
from shared.contracts.orchestrator.protocol import Assignment, Control, HostAnswer, HostOrder
from shared.contracts.words import ASSIGNMENT_TAKEN_WITHIN, BotId, TaskId
from shared.kernel.codec import encode
from shared.runtime.connection import Connection
from shared.runtime.directget import peek
from shared.runtime.publish import Publisher
from shared.runtime.topology import ensure_bot_consumer, remove_bot_consumer

ORDER_WITHIN_S: Final = 5.0
DISPATCH_WITHIN_S: Final = 5.0
ASSIGNMENT_TTL_S: Final = int(ASSIGNMENT_TAKEN_WITHIN.total_seconds())

_answers = msgspec.json.Decoder(HostAnswer)


class Outside(Protocol):
    """Everything may raise Unavailable, and may be repeated."""

    async def dispatch(self, bot_id: BotId, assignment: Assignment) -> None:
        """Store an assignment for a bot; the same token again is stored once."""
        ...

    async def tell(self, bot_id: BotId, control: Control) -> None:
        """A word to a bot, one way."""
        ...

    async def order(self, host: str, order: HostOrder) -> HostAnswer:
        """An order to a host, and its answer."""
        ...

    async def make_queue(self, bot_id: BotId) -> None:
        """A bot can pull its assignments."""
        ...

    async def remove_queue(self, bot_id: BotId) -> None:
        """A bot's queue is gone, with what is in it."""
        ...

    async def command_waits(self, task_id: TaskId) -> bool:
        """Whether our own queue holds a command about the task: perhaps the report of its end."""
        ...


class OverNats:
    """The outside as it is."""

    def __init__(self, service: str, connection: Connection, publisher: Publisher) -> None:
        self._service = service
        self._connection = connection
        self._publisher = publisher

    async def dispatch(self, bot_id: BotId, assignment: Assignment) -> None:
        """Store an assignment for a bot; the broker drops it when it is not taken in time."""
        await self._publisher.publish(
            run_subject(bot_id),
            encode(assignment),
            msg_id=f"{assignment.task_id}:{assignment.token}",
            ttl_s=ASSIGNMENT_TTL_S,
            deadline_s=DISPATCH_WITHIN_S,
        )

    async def tell(self, bot_id: BotId, control: Control) -> None:
        """A word to a bot, one way."""
        await self._connection.publish(control_subject(bot_id), encode(control))

    async def order(self, host: str, order: HostOrder) -> HostAnswer:
        """An order to a host, and its answer."""
        message = await self._connection.request(host_subject(host), encode(order), timeout=ORDER_WITHIN_S)
        return _answers.decode(message.data)

    async def make_queue(self, bot_id: BotId) -> None:
        """Its durable consumer."""
        await ensure_bot_consumer(self._connection, bot_id)

    async def remove_queue(self, bot_id: BotId) -> None:
        """Its durable consumer, and what waits for it."""
        await remove_bot_consumer(self._connection, bot_id)

    async def command_waits(self, task_id: TaskId) -> bool:
        """Look into the work queue."""
        stream, subject = command_stream(self._service), waiting_command_filter(self._service, task_id)
        return await peek(self._connection, stream, subject) is not None
