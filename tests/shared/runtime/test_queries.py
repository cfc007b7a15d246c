"""Questions over a real broker: each has an answer, and none can end the process that is asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar

import pytest
from nats.aio.msg import Msg

from shared.contracts.naming import query_subject
from shared.kernel.errors import Rejected, Unavailable
from shared.kernel.messages import Query
from shared.runtime.connection import Connection, connect
from shared.runtime.queries import Answer, Asker, serve_queries
from tests.support.nats_server import LocalBroker


class GetNote(Query[str], frozen=True, kw_only=True):
    service: ClassVar[str] = "orchestrator"
    answer: ClassVar[object] = str

    note_id: str


async def _answer(query: GetNote) -> str:
    match query.note_id:
        case "broken":
            raise ZeroDivisionError("broken on purpose")
        case "long":
            return "a" * 3_000_000
        case _:
            return query.note_id


@asynccontextmanager
async def asked(
    broker: LocalBroker, answer: Callable[[GetNote], Awaitable[str]] = _answer
) -> AsyncIterator[tuple[Asker, Connection]]:
    async with AsyncExitStack() as stack:
        owner = await connect(broker.settings("svc-orchestrator"))
        stack.push_async_callback(owner.close)
        gateway = await connect(broker.settings("gateway"))
        stack.push_async_callback(gateway.close)
        async with asyncio.TaskGroup() as tasks:
            await serve_queries(owner, "orchestrator", "0.1.0", [Answer(GetNote, answer)], tasks)
            await owner.nc.flush()
            yield Asker(gateway), gateway


async def test_a_question_that_fails_is_answered_and_the_next_one_too(broker: LocalBroker) -> None:
    async with asked(broker) as (ask, _):
        with pytest.raises(Unavailable, match="ZeroDivisionError"):
            await ask(GetNote(note_id="broken"))

        assert await ask(GetNote(note_id="n")) == "n"


async def test_an_answer_too_long_for_the_broker_is_refused_with_a_reason(broker: LocalBroker) -> None:
    async with asked(broker) as (ask, _):
        with pytest.raises(Rejected, match="answer_too_large"):
            await ask(GetNote(note_id="long"))

        assert await ask(GetNote(note_id="n")) == "n"


async def test_an_owner_that_is_just_ending_is_unavailable(broker: LocalBroker) -> None:
    owner, gateway = (
        await connect(broker.settings("svc-orchestrator")),
        await connect(broker.settings("gateway")),
    )

    async def end(message: Msg) -> None:
        """As nats-py answers when the handler of a question fails."""
        await owner.publish(message.reply, b"", headers={"Nats-Service-Error": "it ends"})

    await owner.subscribe(query_subject("orchestrator", "GetNote"), end)
    await owner.nc.flush()

    with pytest.raises(Unavailable, match="it ends"):
        await Asker(gateway)(GetNote(note_id="n"))
    await gateway.close()
    await owner.close()
