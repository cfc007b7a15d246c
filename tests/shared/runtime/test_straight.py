"""The short way through the broker's client."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from shared.kernel.errors import Unavailable
from shared.runtime.connection import Connection, connect
from tests.support.nats_server import LocalBroker

SOON_S = 15.0


@pytest.fixture
async def connection(broker: LocalBroker) -> AsyncIterator[Connection]:
    connection = await connect(broker.settings("svc-orchestrator"))
    yield connection
    await connection.close(drain=False)


class Ear:
    """Hears, and says when it has heard enough."""

    def __init__(self) -> None:
        self.heard: list[Msg] = []
        self._new = asyncio.Event()

    def __call__(self, message: Msg) -> None:
        self.heard.append(message)
        self._new.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(SOON_S):
            while len(self.heard) < count:
                self._new.clear()
                await self._new.wait()
        return [message.data for message in self.heard]


async def test_what_is_said_at_once_stays_behind_what_was_published_before(connection: Connection) -> None:
    ear, subject = Ear(), connection.inbox()
    await connection.hear(subject, ear)

    for number in range(0, 200, 2):
        await connection.publish(subject, str(number).encode())
        connection.say(subject, str(number + 1).encode())

    assert await ear.until(200) == [str(number).encode() for number in range(200)]


async def test_headers_are_read_only_for_who_wants_them(connection: Connection) -> None:
    reads, ignores, subject = Ear(), Ear(), connection.inbox()
    await connection.hear(subject, reads)
    await connection.hear(subject, ignores, headers=False)

    await connection.publish(subject, b"body", "answer.here", {"Colour": "blue"})

    assert await reads.until(1) == await ignores.until(1) == [b"body"]
    assert reads.heard[0].headers == {"Colour": "blue"}
    assert ignores.heard[0].headers is None
    assert ignores.heard[0].reply == "answer.here"


async def test_an_ear_that_fails_is_told_and_the_next_message_is_heard(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    ear, subject = Ear(), connection.inbox()

    def picky(message: Msg) -> None:
        if message.data == b"bad":
            raise ValueError("not like this")
        ear(message)

    await connection.hear(subject, picky)
    with caplog.at_level(logging.INFO):
        for word in (b"bad", b"good"):
            connection.say(subject, word)
        assert await ear.until(1) == [b"good"]

    assert "not like this" in caplog.text


async def test_nothing_is_said_or_kept_while_the_broker_is_away_and_all_is_heard_again_after(
    broker: LocalBroker, connection: Connection
) -> None:
    ear, subject, back = Ear(), connection.inbox(), asyncio.Event()
    await connection.hear(subject, ear)

    async def is_back() -> None:
        back.set()

    connection.on_reconnect(is_back)
    gone = asyncio.Event()
    connection.on_disconnect(gone.set)
    broker.kill()
    async with asyncio.timeout(SOON_S):
        await gone.wait()
    with pytest.raises(Unavailable):
        connection.say(subject, b"lost")
    broker.restart()
    async with asyncio.timeout(SOON_S):
        await back.wait()
    connection.say(subject, b"heard")

    assert await ear.until(1) == [b"heard"]
