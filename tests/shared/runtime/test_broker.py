"""The broker as a process of ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nats
import psutil
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from shared.runtime import broker as broker_module
from shared.runtime.broker import BrokerConfig, BrokerError, BrokerProcess, read_durability
from shared.runtime.credentials import create_authority
from tests.support.nats_server import LocalBroker


async def test_a_user_with_credentials_speaks_to_jetstream(broker: LocalBroker) -> None:
    async with broker.client("ops") as ops:
        account = await ops.jetstream().account_info()
    assert (account.limits.max_streams, account.domain) == (64, "hive")


async def test_nobody_gets_in_without_credentials(broker: LocalBroker) -> None:
    stranger = Client()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await stranger.connect(broker.url, allow_reconnect=False)
    await stranger.close()


async def test_the_server_s_own_word_proves_that_acknowledged_means_on_disk(
    fresh_broker: Callable[[str], LocalBroker],
) -> None:
    assert read_durability(fresh_broker("fsync").monitor_url).synced
    assert not read_durability(fresh_broker("os").monitor_url).synced


async def test_a_restart_keeps_the_port_and_what_was_stored(broker: LocalBroker) -> None:
    url = broker.url
    async with broker.client("ops") as ops:
        await ops.request("$JS.API.STREAM.CREATE.KEPT", b'{"name":"KEPT","subjects":["kept"]}')

    broker.kill()
    broker.restart()

    async with broker.client("ops") as ops:
        answer = await ops.request("$JS.API.STREAM.INFO.KEPT")
    assert (url, True) == (broker.url, b'"name":"KEPT"' in answer.data)


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    config = BrokerConfig(
        authority=create_authority(tmp_path / "keys"), store_dir=tmp_path / "store", host="203.0.113.1"
    )
    process = BrokerProcess.start(config, tmp_path / "run", tmp_path / "nats.log")
    with pytest.raises(BrokerError, match=r"203\.0\.113\.1"):
        process.wait_ready(10)


def test_a_port_that_does_not_answer_proves_nothing() -> None:
    with pytest.raises(BrokerError, match="is the broker up"):
        read_durability("http://127.0.0.1:1")


CHILD = """
import sys
from pathlib import Path
from shared.runtime.broker import BrokerConfig, BrokerProcess
from shared.runtime.credentials import create_authority
folder = Path(sys.argv[1])
config = BrokerConfig(authority=create_authority(folder / "keys"), store_dir=folder / "store")
process = BrokerProcess.start(config, folder / "run", folder / "nats.log")
process.wait_ready()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_the_broker_never_outlives_its_parent(tmp_path: Path) -> None:
    root = Path(broker_module.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        assert "nats-server" in server.name()

        parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert psutil.wait_procs([server], timeout=10)[1] == []


async def test_nothing_answers_for_what_is_not_there(nats_server: LocalBroker) -> None:
    async with nats_server.client("ops") as ops:
        with pytest.raises(NoRespondersError):
            await ops.request("ask.nobody.Nothing", b"{}")
