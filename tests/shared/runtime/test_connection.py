"""The connection: it comes back by itself, and knows when it may not."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.connection import BrokerRefused, Connection, connect
from shared.runtime.credentials import create_authority
from shared.runtime.revocation import revoke
from tests.support.nats_server import LocalBroker

SOON_S = 15.0


@pytest.fixture
async def connection(broker: LocalBroker) -> AsyncIterator[Connection]:
    connection = await connect(broker.settings("svc-orchestrator"))
    yield connection
    await connection.close(drain=False)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_inbox_is_fresh_and_under_the_senders_own_prefix(connection: Connection) -> None:
    first, second = connection.inbox(), connection.inbox()

    assert first != second
    assert first.startswith("_INBOX.svc-orchestrator.")


async def test_many_requests_at_once_get_their_own_answers(connection: Connection) -> None:
    async def double(message: Msg) -> None:
        await connection.publish(message.reply, str(2 * int(message.data)).encode())

    doubling = connection.inbox()
    await connection.subscribe(doubling, double)

    answers = await asyncio.gather(
        *(connection.request(doubling, str(number).encode(), timeout=5) for number in range(500))
    )

    assert [int(answer.data) for answer in answers] == [2 * number for number in range(500)]
    assert connection.replies._waiting == {}


async def test_a_request_that_nobody_hears_is_unavailable_at_once(connection: Connection) -> None:
    began = monotonic()

    with pytest.raises(Unavailable, match="nobody answers"):
        await connection.request(connection.inbox(), b"", timeout=30)

    assert monotonic() - began < 5


async def test_a_request_without_an_answer_ends_in_time_and_leaves_no_trace(connection: Connection) -> None:
    async def ignore(_: Msg) -> None:
        pass

    silence = connection.inbox()
    await connection.subscribe(silence, ignore)

    with pytest.raises(Unavailable, match="no answer"):
        await connection.request(silence, b"", timeout=0.1)

    assert connection.replies._waiting == {}


async def test_a_request_ends_when_the_connection_breaks(broker: LocalBroker, connection: Connection) -> None:
    async def ignore(_: Msg) -> None:
        pass

    silence = connection.inbox()
    await connection.subscribe(silence, ignore)
    asking = asyncio.ensure_future(connection.request(silence, b"", timeout=60))
    await asyncio.sleep(0)
    broker.kill()

    with pytest.raises(Unavailable, match="broke"):
        async with asyncio.timeout(SOON_S):
            await asking


async def test_an_error_of_jetstream_carries_its_code(connection: Connection) -> None:
    with pytest.raises(BrokerRefused) as refused:
        await connection.api("STREAM.INFO.EVENTS")

    assert refused.value.code == 10059


async def test_what_is_not_permitted_is_counted(connection: Connection) -> None:
    await connection.publish("evt.key.k", b"not ours")

    await until(lambda: connection.permission_violations == 1)
    assert connection.connected


async def test_it_comes_back_after_a_crash_and_calls_back_in_order(
    broker: LocalBroker, connection: Connection
) -> None:
    called: list[str] = []
    back = asyncio.Event()

    async def first() -> None:
        called.append("first")

    async def unavailable() -> None:
        called.append("unavailable")
        raise Unavailable("not yet")

    async def last() -> None:
        called.append("last")
        back.set()

    connection.on_disconnect(lambda: called.append("away"))
    for callback in (first, unavailable, last):
        connection.on_reconnect(callback)
    broker.kill()
    await until(lambda: not connection.connected)
    with pytest.raises(Unavailable, match="away"):
        await connection.request(connection.inbox(), b"", timeout=5)
    broker.restart()

    async with asyncio.timeout(SOON_S):
        await back.wait()

    assert called == ["away", "first", "unavailable", "last"]
    assert connection.connected
    assert not connection.closed.is_set()


async def test_what_is_no_longer_to_be_called_is_not(broker: LocalBroker, connection: Connection) -> None:
    called: list[str] = []
    back = asyncio.Event()

    async def forgotten() -> None:
        called.append("forgotten")

    async def last() -> None:
        back.set()

    undo = connection.on_reconnect(forgotten)
    connection.on_reconnect(last)
    undo()
    undo()
    broker.kill()
    broker.restart()

    async with asyncio.timeout(SOON_S):
        await back.wait()

    assert called == []


async def test_a_callback_that_fails_ends_the_process(broker: LocalBroker, connection: Connection) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    connection.on_reconnect(fail)
    broker.kill()
    broker.restart()

    async with asyncio.timeout(SOON_S):
        await connection.closed.wait()


async def test_subscriptions_go_on_after_a_crash(broker: LocalBroker, connection: Connection) -> None:
    heard = asyncio.Event()

    async def hear(_: Msg) -> None:
        heard.set()

    back = asyncio.Event()

    async def note() -> None:
        back.set()

    still = connection.inbox()
    await connection.subscribe(still, hear)
    connection.on_reconnect(note)
    broker.kill()
    broker.restart()
    async with asyncio.timeout(SOON_S):
        await back.wait()

    await connection.publish(still, b"")

    async with asyncio.timeout(SOON_S):
        await heard.wait()


async def test_a_broker_that_is_not_there_is_unavailable_within_the_time_given(broker: LocalBroker) -> None:
    settings = broker.settings("svc-orchestrator")
    broker.kill()
    began = monotonic()

    with pytest.raises(Unavailable, match="no connection"):
        await connect(settings, within=0.5)

    assert monotonic() - began < 5


async def test_a_revoked_user_is_told_that_it_is_over(broker: LocalBroker) -> None:
    connection = await connect(broker.settings("bot-b1"))
    system = await connect(broker.settings("sys"))
    await revoke(system, broker.authority, broker.keys["bot-b1"])
    await system.close()

    async with asyncio.timeout(SOON_S):
        await connection.closed.wait()

    with pytest.raises(Unavailable):
        await connection.publish("hb.b1", b"")
    await connection.close()


@pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
async def test_who_is_refused_on_coming_back_learns_that_it_is_over(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.connection.CREDENTIALS_REFUSED_FOR_S", 0.5)
    creds = tmp_path / "mine.creds"
    creds.write_text(broker.creds("svc-orchestrator").read_text())
    connection = await connect(msgspec.structs.replace(broker.settings("svc-orchestrator"), creds=creds))
    broker.kill()
    await until(lambda: not connection.connected)
    creds.write_text(create_authority(tmp_path / "stranger").service_creds("svc-orchestrator"))
    broker.restart()

    async with asyncio.timeout(SOON_S):
        await connection.closed.wait()

    await connection.close()
    gc.collect()  # nats-py forgets the sockets of refused attempts: they must go here, where we know why


async def test_leaving_finishes_what_was_heard_before(broker: LocalBroker) -> None:
    connection = await connect(broker.settings("svc-orchestrator"))
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    notes = connection.inbox()
    await connection.subscribe(notes, hear)
    for number in range(100):
        await connection.publish(notes, str(number).encode())

    await connection.close()

    assert len(heard) == 100
    assert connection.closed.is_set()
    await connection.close()
