"""Which hive is meant, and with which key."""

from pathlib import Path

import httpx
import pytest

from cli import ports
from cli.client import Client
from cli.data_dir import DataDir, Running
from cli.failure import Exit, Failure
from tests.cli.conftest import URL, Run
from tests.cli.fake_hive import FakeHive, page

NOWHERE = {"HIVE_URL": None, "HIVE_KEY": None}


def running(data: DataDir, url: str) -> Running:
    return Running(
        pid=1,
        started=0.0,
        url=url,
        nats_url="nats://127.0.0.1:1",
        admin_key=str(data.admin_key),
        host="127.0.0.1",
        port=1,
        durability="fsync",
        since="2026-01-31T12:00:00Z",
    )


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.make()
    data.write_running(running(data, "http://local.test"))
    data.admin_key.write_text("hive_admin\n")
    return data


def test_the_hive_that_runs_here_is_meant_when_nothing_is_said(
    run: Run, hive: FakeHive, data: DataDir
) -> None:
    hive.on("GET /v1/bots", page())

    assert run("bots", env=NOWHERE).exit_code == 0
    assert hive.last.url.host == "local.test"
    assert hive.last.headers["Authorization"] == "Bearer hive_admin"


def test_hive_url_and_hive_key_mean_another_one(run: Run, hive: FakeHive, data: DataDir) -> None:
    hive.on("GET /v1/bots", page())

    run("bots")

    assert f"http://{hive.last.url.host}" == URL
    assert hive.last.headers["Authorization"] == "Bearer hive_test"


def test_options_win_over_the_environment(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots", page())

    run("bots", "--url", "http://option.test", "--access-key", "hive_option")

    assert hive.last.url.host == "option.test"
    assert hive.last.headers["Authorization"] == "Bearer hive_option"


def test_the_admin_key_is_not_sent_to_another_hive(run: Run, hive: FakeHive, data: DataDir) -> None:
    result = run("bots", env={"HIVE_KEY": None})

    assert result.exit_code == 2
    assert "set HIVE_KEY, or pass --access-key" in result.stderr
    assert hive.asked == []


def test_without_a_hive_the_command_says_how_to_start_one(run: Run) -> None:
    result = run("bots", env=NOWHERE)

    assert result.exit_code == 5
    assert "next: `hive up`" in result.stderr


@pytest.mark.parametrize("how", [(), ("--detach",)])
def test_a_data_directory_that_cannot_be_made_is_an_error_with_a_remedy(
    run: Run, how: tuple[str, ...]
) -> None:
    result = run("up", "--data", "/proc/nowhere", *how)

    assert result.exit_code == 1
    assert "/proc/nowhere cannot be made a data directory" in result.stderr
    assert "next: name another with --data" in result.stderr


def test_an_admin_key_of_someone_else_is_refused_with_a_remedy(run: Run, data: DataDir) -> None:
    data.admin_key.unlink()

    result = run("bots", env=NOWHERE)

    assert result.exit_code == 4
    assert "run this as the user" in result.stderr


def test_a_hive_that_is_not_there_is_unavailable() -> None:
    with ports.reserve() as nobody:
        client = Client(f"http://127.0.0.1:{ports.port_of(nobody)}", "k")
        with client, pytest.raises(Failure) as failed:
            client.get("/v1/bots")

    assert (failed.value.exit_code, failed.value.code) == (Exit.UNAVAILABLE, "not_running")


def test_a_connection_that_breaks_says_that_the_outcome_is_unknown() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    transport = httpx.MockTransport(broken)
    with Client("http://x", "k", transport=transport) as client, pytest.raises(Failure) as failed:
        client.post("/v1/tasks", {})

    assert failed.value.exit_code == Exit.UNAVAILABLE
    assert "unknown" in failed.value.why
    assert "--key" in failed.value.todo


def test_an_address_that_is_none_is_a_usage_error() -> None:
    with Client("ftp://x", "k") as client, pytest.raises(Failure) as failed:
        client.get("/v1/bots")

    assert failed.value.exit_code == Exit.USAGE
