"""What the command does with this machine: the data directory, ports, logs, the doctor's checks."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from cli import checks, ports
from cli.checkup import room
from cli.data_dir import DataDir, Held, default_path
from cli.failure import Exit, Failure
from cli.launch import hold
from cli.logs import Tail
from cli.plan import Plan
from tests.cli.conftest import Run
from tests.cli.test_session import running

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


def free_port() -> int:
    with ports.reserve() as held:
        return ports.port_of(held)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.make()
    return data


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process to be found, waited for, ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_data_lies_under_the_users_state_directory() -> None:
    assert default_path("/state") == Path("/state/hive")
    assert default_path(None) == Path.home() / ".local/state/hive"
    assert default_path("") == Path.home() / ".local/state/hive"


def test_a_data_directory_is_closed_to_others(data: DataDir) -> None:
    assert {oct(folder.stat().st_mode & 0o777) for folder in (data.path, data.logs, data.broker)} == {"0o700"}


def test_where_the_hive_runs_is_written_for_its_owner_only_and_read_back(data: DataDir) -> None:
    there = running(data, "http://x")

    data.write_running(there)

    assert data.running() == there
    assert data.running_file.stat().st_mode & 0o777 == 0o600
    data.forget_running()
    data.forget_running()
    assert data.running() is None


def test_half_a_file_is_none(data: DataDir) -> None:
    data.running_file.write_text('{"pid": 1')

    assert data.running() is None


def test_two_hives_cannot_have_the_same_data(data: DataDir) -> None:
    data.write_running(running(data, "http://first"))
    with data.lock():
        assert data.is_held()
        with pytest.raises(Held) as held:
            data.lock()
        assert held.value.holder is not None
        assert held.value.holder.url == "http://first"
        with pytest.raises(Failure) as failed:
            hold(data)
        assert failed.value.exit_code == Exit.REFUSED
        assert failed.value.why == "process 1, at http://first."

    assert not data.is_held()


def test_a_second_up_says_who_has_the_data_and_exits_4(run: Run, data: DataDir) -> None:
    data.write_running(running(data, "http://first"))
    with data.lock():
        for words in (("up",), ("up", "--detach")):
            result = run(*words)
            assert result.exit_code == 4
            assert "process 1, at http://first" in result.stderr


def test_what_a_killed_hive_left_behind_is_waited_for(data: DataDir, sleeper: psutil.Process) -> None:
    left_over = msgspec.structs.replace(
        running(data, "http://x"), zygote_pid=sleeper.pid, zygote_started=sleeper.create_time()
    )
    data.write_running(left_over)
    threading.Timer(0.3, sleeper.kill).start()

    with hold(data):
        assert not sleeper.is_running()


def test_another_process_with_the_number_of_a_dead_one_is_not_waited_for(
    data: DataDir, sleeper: psutil.Process
) -> None:
    earlier = sleeper.create_time() - 3600
    data.write_running(
        msgspec.structs.replace(running(data, "http://x"), zygote_pid=sleeper.pid, zygote_started=earlier)
    )

    with hold(data):
        assert sleeper.is_running()


def test_down_ends_the_supervisor_and_waits(run: Run, data: DataDir, sleeper: psutil.Process) -> None:
    there = msgspec.structs.replace(running(data, "http://x"), pid=sleeper.pid, started=sleeper.create_time())
    data.write_running(there)

    result = run("down")

    assert (result.exit_code, result.stdout) == (0, "The hive has stopped.\n")
    assert not sleeper.is_running()


def test_down_ends_no_stranger_who_has_the_number(run: Run, data: DataDir, sleeper: psutil.Process) -> None:
    data.write_running(msgspec.structs.replace(running(data, "http://x"), pid=sleeper.pid, started=1.0))

    result = run("down", "--json")

    assert msgspec.json.decode(result.stdout) == {"state": "not_running"}
    assert sleeper.is_running()
    assert data.running() is None


def test_the_usual_port_is_given_up_for_a_free_one_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "HTTP_PORT", free_port())
    with ports.listen(None) as first, ports.listen(None) as second:
        assert ports.port_of(first) == ports.HTTP_PORT
        assert ports.port_of(second) != ports.HTTP_PORT

        with pytest.raises(Failure) as failed:
            ports.listen(ports.HTTP_PORT)

    assert failed.value.exit_code == Exit.REFUSED
    assert "another" in failed.value.todo


def test_a_brokers_port_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with ports.listen(free_port()) as taken:
        monkeypatch.setattr(ports, "BROKER_PORT", ports.port_of(taken))
        with ports.reserve_broker_port() as other:
            assert ports.port_of(other) != ports.BROKER_PORT


def test_a_port_is_kept_for_a_process_that_is_started_again_and_for_no_other_hive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ports.reserve() as held:
        port = ports.port_of(held)
        for _ in range(2):
            ports.listen(port).close()
        monkeypatch.setattr(ports, "BROKER_PORT", port)
        with ports.reserve_broker_port() as other:
            assert ports.port_of(other) != port


def test_an_existing_broker_needs_its_credentials(run: Run, tmp_path: Path) -> None:
    result = run("up", "--nats", "nats://elsewhere:4222")

    assert result.exit_code == 2
    assert "--creds-dir" in result.stderr
    empty = run("up", "--nats", "nats://elsewhere:4222", "--creds-dir", str(tmp_path))
    assert empty.exit_code == 2
    assert "ops.creds" in empty.stderr
    assert Plan(data=tmp_path, creds_dir=Path("/creds")).creds("ops") == Path("/creds/ops.creds")


def test_logs_show_the_end_of_a_file_and_services_lines_as_sentences(run: Run, data: DataDir) -> None:
    line = {"at": "2026-01-31T12:00:00Z", "level": "info", "message": "ready", "service": "gateway"}
    data.log_of("gateway").write_bytes(b"plain\n" + msgspec.json.encode(line) + b"\n")
    data.log_of("bots").write_text("of the host\n")
    (data.logs / "bots").mkdir()
    data.bot_log("alpha").write_text("from a bot\n")

    assert run("logs", "gateway").stdout == "plain\n2026-01-31T12:00:00Z INFO     ready\n"
    assert run("logs", "gateway", "-n", "1").stdout == "2026-01-31T12:00:00Z INFO     ready\n"
    assert run("logs", "alpha").stdout == "from a bot\n"
    assert "bots         of the host\ngateway      plain\n" in run("logs").stdout
    told = msgspec.json.decode(run("logs", "alpha", "--json").stdout)
    assert told == {"log": "alpha", "line": "from a bot"}


def test_logs_of_nobody_is_exit_3_and_names_who_there_is(run: Run, data: DataDir) -> None:
    data.log_of("gateway").touch()

    result = run("logs", "nobody")

    assert result.exit_code == 3
    assert "gateway" in result.stderr


def test_following_a_log_gives_whole_lines_and_survives_that_it_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntw")
    with contextlib.closing(Tail(path)) as tail:
        assert list(tail.more()) == ["one"]

        with path.open("a") as file:
            file.write("o\n")
        assert list(tail.more()) == ["two"]

        path.rename(tmp_path / "a.log.1")
        path.write_text("three\n")
        assert list(tail.more()) == ["three"]


def test_the_doctor_works_while_the_hive_is_down(run: Run, data: DataDir) -> None:
    result = run("doctor", "--json")

    told = msgspec.json.decode(result.stdout)
    levels = {check["name"]: check["level"] for check in told["checks"]}
    assert {"python", "nats-server", "data directory", "disk", "lock", "clock", "sandbox"} <= levels.keys()
    assert levels["python"] == levels["nats-server"] == levels["data directory"] == "ok"
    assert result.exit_code == (0 if told["ok"] else 1)


def test_the_doctor_finds_keys_that_others_can_read(data: DataDir) -> None:
    data.admin_key.write_text("hive_x")
    data.admin_key.chmod(0o644)

    (found,) = checks.secrets(data)

    assert (found.level, found.remedy) == ("fail", f"chmod 600 {data.admin_key}")
    data.admin_key.chmod(0o600)
    assert [check.level for check in checks.secrets(data)] == ["ok"]


def test_the_doctor_finds_a_data_directory_that_others_can_read(data: DataDir) -> None:
    data.path.chmod(0o755)

    assert checks.folder(data).level == "fail"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_the_doctor_finds_a_data_directory_that_cannot_be_written(data: DataDir) -> None:
    data.path.chmod(0o500)

    assert "cannot be written" in checks.folder(data).detail


def test_the_doctor_says_who_has_the_data(data: DataDir) -> None:
    assert "no hive runs" in checks.lock(data).detail
    data.write_running(running(data, "http://x"))
    assert "was killed" in checks.lock(data).detail
    with data.lock():
        assert checks.lock(data).detail == "held by process 1, at http://x"
        assert checks.running_of(data) is not None
    assert checks.running_of(data) is None


def test_the_doctor_finds_a_clock_that_went_back(data: DataDir) -> None:
    data.write_running(running(data, "http://x"))

    assert checks.clock_of(data, NOW + timedelta(hours=1)).level == "ok"
    assert checks.clock_of(data, NOW - timedelta(hours=1)).level == "fail"


@pytest.mark.parametrize(("used", "level"), [(50, "ok"), (70, "warn"), (85, "fail")])
def test_the_doctor_warns_of_a_full_disk(
    data: DataDir, monkeypatch: pytest.MonkeyPatch, used: int, level: str
) -> None:
    usage = type("Usage", (), {"total": 100, "used": used, "free": 100 - used})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)

    assert checks.disk(data).level == level


@pytest.mark.parametrize(("free_gb", "level"), [(100, "ok"), (10, "warn"), (1, "fail")])
def test_days_left_follow_from_how_the_log_grew(free_gb: int, level: str) -> None:
    check = room(
        "held",
        log_bytes=10_000_000_000,
        aggregates=1_000_000,
        age=timedelta(days=10),
        free_bytes=free_gb * 1_000_000_000,
        memory_bytes=10_000_000_000,
    )

    assert check.level == level
    assert f"{free_gb:,} days left on disk, 333 in memory" in check.detail


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; from cli.main import hive; hive(['--help'], standalone_mode=False);"
        "print(sorted({'httpx', 'rich', 'nats', 'msgspec', 'asyncio'} & sys.modules.keys()), file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stderr == "[]\n"
    assert "6  still running when the wait ended" in done.stdout
    assert time.monotonic() - began < 1.5


def test_every_noun_and_verb_explains_itself(run: Run) -> None:
    for noun in ("up", "down", "status", "logs", "doctor", "demo", "bots", "submit", "tasks", "task", "dlq"):
        assert run(noun, "--help").exit_code == 0
    assert run("bots", "launch", "--help").exit_code == 0
    assert run("keys", "create", "-h").exit_code in (0, 2)
    assert run("nonsense").exit_code == 2


def test_the_version_is_that_of_the_project(run: Run) -> None:
    assert f'version = "{run("--version").stdout.strip()}"' in (ROOT / "pyproject.toml").read_text()


def test_the_script_in_the_root_says_what_to_do_without_an_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "hive", "status"],
        env={"HIVE_VENV": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "make -C" in done.stderr
    assert "setup" in done.stderr
