"""`hive up` as a person uses it: every process real, every command typed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from cli.data_dir import DataDir, Running
from tests.support.nats_server import LocalBroker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
DONE_WITHIN_S = 60
HOST_REPORTS_EVERY_S = 1

Done = subprocess.CompletedProcess[str]


class Hive:
    """One data directory, and the command typed about it."""

    def __init__(self, folder: Path) -> None:
        self.data = DataDir(folder)

    def __call__(self, *words: str, sent: str | None = None) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=ROOT,
            env=self.env,
            input=sent,
            capture_output=True,
            text=True,
            timeout=DONE_WITHIN_S,
            check=False,
        )

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HIVE_")}
        return {**kept, "HIVE_DATA": str(self.data.path)}

    @property
    def running(self) -> Running:
        running = self.data.running()
        assert running is not None
        return running

    def up(self) -> Running:
        done = self("up", "--detach", "--durability", "os")
        assert done.returncode == 0, done.stderr
        return self.running

    def echo(self, text: str) -> None:
        """A task goes all the way through, whatever was killed a moment ago."""
        done = self("submit", "--engine", "echo", text, "--wait=50")
        assert (done.returncode, done.stdout) == (0, f"{text}\n"), done.stderr

    def said(self) -> str:
        return self.data.log_of("supervisor").read_text()


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hive]:
    """A hive with two echo bots."""
    hive = Hive(tmp_path_factory.mktemp("hive"))
    hive.up()
    launched = hive("bots", "launch", "echo", "--engine", "echo", "--count", "2")
    assert launched.returncode == 0, launched.stderr
    yield hive
    hive("down")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Hive]:
    """A data directory of the test's own."""
    hive = Hive(tmp_path / "hive")
    yield hive
    hive("down")


def tree(running: Running) -> list[psutil.Process]:
    """Every process of a hive."""
    supervisor = psutil.Process(running.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=DONE_WITHIN_S)[1]


def test_a_task_is_submitted_done_and_counted(hive: Hive) -> None:
    hive.echo("hello")

    status = hive("status")
    assert status.returncode == 0
    assert "completed" in status.stdout
    assert "2 idle" in hive("status").stdout
    until = time.monotonic() + 5 * HOST_REPORTS_EVERY_S
    while not re.search(r"^local +heard +2 ", status.stdout, re.MULTILINE):
        assert time.monotonic() < until, status.stdout
        status = hive("status")


def test_many_tasks_come_from_standard_input(hive: Hive) -> None:
    lines = "".join(f'{{"content":"n{number}","engine":"echo"}}\n' for number in range(20))

    done = hive("submit", "-", "--watch", sent=lines)

    assert done.returncode == 0, done.stderr
    assert {line.split()[-1] for line in done.stdout.splitlines()} == {f"n{number}" for number in range(20)}


def test_a_second_up_says_who_has_the_data(hive: Hive) -> None:
    second = hive("up")

    assert second.returncode == 4
    assert f"process {hive.running.pid}, at {hive.running.url}" in second.stderr


def test_the_doctor_finds_a_running_hive_well(hive: Hive) -> None:
    told = msgspec.json.decode(hive("doctor", "--json").stdout)
    levels = {check["name"]: check["level"] for check in told["checks"]}

    services = {"orchestrator", "messenger", "gateway", "bots"}
    assert services | {"streams", "store", "broker clock", "room"} <= levels.keys()
    assert {levels[name] for name in (*services, "streams")} == {"ok"}
    assert levels["durability"] == "warn"  # as it was asked for


@pytest.mark.parametrize("service", ["orchestrator", "messenger", "gateway", "bots"])
def test_a_killed_service_is_started_again_and_work_goes_on(hive: Hive, service: str) -> None:
    before = hive.running.services[service]

    os.kill(before, signal.SIGKILL)
    hive.echo(f"after {service}")

    assert f"{service} ended (signal 9)" in hive.said()


def test_a_killed_broker_comes_back_on_its_port_with_everything_acknowledged(hive: Hive) -> None:
    submitted = hive("submit", "--engine", "nobody-has-this", "wait").stdout.strip()
    before = hive.running
    assert before.broker_pid is not None

    os.kill(before.broker_pid, signal.SIGKILL)
    hive.echo("after the broker")

    after = hive.running
    assert before.broker_pid != after.broker_pid
    assert (before.nats_url, before.monitor_url) == (after.nats_url, after.monitor_url)
    assert hive("task", "show", submitted).returncode == 0


def test_the_zygote_may_die_too(hive: Hive) -> None:
    zygote = hive.running.zygote_pid
    assert zygote is not None

    os.kill(zygote, signal.SIGKILL)
    hive.echo("after the zygote")


def test_a_login_link_and_a_key_let_in_and_a_revoked_key_does_not(hive: Hive) -> None:
    assert hive("login").stdout.startswith(f"{hive.running.url}/login?token=")

    made = msgspec.json.decode(hive("keys", "create", "ci", "--json").stdout)
    assert hive("tasks", "--access-key", made["key"]).returncode == 0
    assert hive("keys", "revoke", made["id"]).returncode == 0
    assert hive("tasks", "--access-key", made["key"]).returncode == 4


def test_when_the_supervisor_is_killed_nothing_survives_and_the_next_up_goes_on(own: Hive) -> None:
    running = own.up()
    own("bots", "launch", "echo", "--engine", "echo")
    kept = own("submit", "--engine", "echo", "kept", "--wait").stderr.split()[0]
    processes = tree(running)

    os.kill(running.pid, signal.SIGKILL)

    assert all_gone(processes)
    assert own.up().pid != running.pid
    assert own("task", "show", kept).returncode == 0
    own.echo("and on")


def test_down_stops_every_process_in_order(own: Hive) -> None:
    processes = tree(own.up())

    done = own("down")

    assert (done.returncode, done.stdout) == (0, "The hive has stopped.\n")
    assert all_gone(processes)
    assert own.data.running() is None
    said = own.said()
    stopped = ("gateway", "bots", "orchestrator", "messenger", "nats-server")
    order = [said.index(f"stopping {name}") for name in stopped]
    assert order == sorted(order)
    assert "did not stop within" not in said
    assert own("status").returncode == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_hive_in_the_foreground_drains_on_a_signal_and_exits_0(own: Hive, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "up", "--json"], cwd=ROOT, env=own.env, stdout=subprocess.PIPE
    ) as foreground:
        assert foreground.stdout is not None
        running = msgspec.json.decode(foreground.stdout.readline(), type=Running)
        processes = tree(running)[1:]

        foreground.send_signal(number)

        assert foreground.wait(DONE_WITHIN_S) == 0
    assert all_gone(processes)


def test_a_hive_uses_a_broker_that_is_there_already(own: Hive, broker: LocalBroker) -> None:
    done = own("up", "--detach", "--nats", broker.url, "--creds-dir", str(broker.folder / "keys"))
    assert done.returncode == 0, done.stderr
    assert own.running.broker_pid is None
    own("bots", "launch", "echo", "--engine", "echo")
    own.echo("elsewhere")
    assert own("bots", "retire", "echo").stdout == "echo  retired\n"

    assert own("down").returncode == 0
    assert broker.process.running


def test_the_demo_shows_what_it_promises() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "cli", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )

    assert demo.returncode == 0, demo.stdout
    assert "kill -9" in demo.stdout
    assert "10 of 10 tasks ended as they should" in demo.stdout
