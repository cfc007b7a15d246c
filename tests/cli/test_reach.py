"""A broker that is not there is told of at once, and is not waited for long."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli.failure import Exit, Failure
from cli.reach import WITHIN_S, until_there
from tests.cli.conftest import Run
from tests.cli.test_machine import free_port
from tests.support.nats_server import LocalBroker


@pytest.fixture
def stranger() -> Iterator[int]:
    """A server that greets as no broker does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def _greet(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.sendall(b"SSH-2.0\r\n")
        connection.close()


def test_a_hive_on_a_broker_that_is_away_is_refused_within_seconds(run: Run, broker: LocalBroker) -> None:
    began = time.monotonic()

    result = run(
        "up", "--nats", f"nats://127.0.0.1:{free_port()}", "--creds-dir", str(broker.folder / "keys")
    )

    assert result.exit_code == 5, result.stderr
    assert "Connection refused; trying for 5 s" in result.stderr.splitlines()[0]
    assert "No broker answers at nats://127.0.0.1:" in result.stderr
    assert time.monotonic() - began < 2 * WITHIN_S


def test_one_server_of_a_cluster_is_enough(nats_server: LocalBroker) -> None:
    said: list[str] = []
    until_there(f"nats://127.0.0.1:{free_port()}, {nats_server.url}", said.append)
    assert said == []


def test_a_broker_that_comes_up_meanwhile_is_waited_for(broker: LocalBroker) -> None:
    broker.kill()
    told = threading.Event()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(until_there, broker.url, lambda _: told.set())
        assert told.wait(WITHIN_S)
        broker.restart()
        waiting.result(timeout=2 * WITHIN_S)


def test_a_server_that_is_no_broker_is_told_apart(stranger: int) -> None:
    with pytest.raises(Failure) as failed:
        until_there(f"127.0.0.1:{stranger}", lambda _: None, within_s=0.1)
    assert failed.value.exit_code == Exit.UNAVAILABLE
    assert "is no NATS server" in failed.value.why


@pytest.mark.parametrize("url", ["nats://", "nats://h:port", "nats://h:4222,"])
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(Failure) as failed:
        until_there(url, lambda _: None)
    assert failed.value.exit_code == Exit.USAGE
