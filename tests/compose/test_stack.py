"""The stack in containers, from outside: it works, it is closed, and a killed container does no harm."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.stack import Stack, stack, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

BACK_WITHIN_S = 60.0
SERVICES = ("ops", "orchestrator", "messenger", "gateway", "bots")


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("stack")) as started:
        launch(started, {"name": "parrot", "engine": "echo"})
        launch(started, {"name": "hand", "engine": "shell", "workspace": "/workspaces"})
        yield started


def launch(hive: Stack, bot: dict[str, Any]) -> None:
    with hive.client() as client:
        answer = client.post("/v1/bots", params={"wait": 30}, json=bot)
    assert answer.status_code in {200, 201}, f"{answer.text}\n{hive.logs()}"
    assert answer.json()["state"] == "idle", answer.text


def result_of(hive: Stack, bot: str, content: str, key: str) -> dict[str, Any]:
    """The ended task, however often it must be asked for: the key makes it one task."""
    ended: dict[str, Any] = {}

    def asked() -> bool:
        with hive.client() as client:
            answer = client.post(
                "/v1/tasks",
                params={"wait": 20},
                headers={"Idempotency-Key": key},
                json={"content": content, "bot": bot},
            )
        if answer.status_code in {200, 201} and answer.json()["state"] in {"completed", "failed"}:
            ended.update(answer.json())
        return bool(ended)

    assert until(asked, BACK_WITHIN_S), hive.logs()
    return ended


def test_a_task_goes_in_at_the_published_port_and_its_result_comes_back(hive: Stack) -> None:
    done = result_of(hive, "parrot", "hello from outside", "smoke-echo")
    assert (done["state"], done["output"]["text"]) == ("completed", "hello from outside")


def test_a_shell_task_runs_in_the_workspace_volume_with_git(hive: Stack) -> None:
    assert result_of(hive, "hand", "pwd", "smoke-pwd")["output"]["text"] == "/workspaces\n"
    assert result_of(hive, "hand", "git --version", "smoke-git")["output"]["text"].startswith("git version")


def test_a_retired_bot_is_cut_off_at_the_broker_and_its_name_is_free(hive: Stack) -> None:
    launch(hive, {"name": "mayfly", "engine": "echo"})
    with hive.client() as client:
        assert client.delete("/v1/bots/mayfly").status_code in {200, 202, 204}
    assert until(lambda: "revoked U" in hive.compose("logs", "--no-color", "ops"), BACK_WITHIN_S)
    launch(hive, {"name": "mayfly", "engine": "echo"})


def test_nothing_is_answered_without_the_key(hive: Stack) -> None:
    assert httpx.get(f"http://127.0.0.1:{hive.port}/v1/tasks").status_code == 401


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_not_root_and_cannot_write_its_root(hive: Stack, service: str) -> None:
    assert hive.inside(service, "id", "-u").stdout.strip() == "10001"
    assert hive.inside(service, "touch", "/hive/new").returncode != 0


@pytest.mark.parametrize(
    ("service", "own"),
    [
        ("orchestrator", {"svc-orchestrator.creds"}),
        ("messenger", {"svc-messenger.creds"}),
        ("gateway", {"gateway.creds"}),
        ("bots", {"svc-bots.creds", "bots.signer"}),
    ],
)
def test_a_container_has_its_own_keys_and_no_others(hive: Stack, service: str, own: set[str]) -> None:
    keys = hive.inside(service, "find", "/data/keys", "/keys", "/authority", "-type", "f").stdout.split()
    assert {key.rpartition("/")[2] for key in keys} == own


def test_what_a_bot_runs_cannot_read_the_keys_of_its_host(hive: Stack) -> None:
    tried = result_of(hive, "hand", "cat /data/keys/svc-bots.creds", "steal")
    assert tried["state"] == "failed"
    assert "NATS USER" not in str(tried)


def test_only_the_api_is_published_and_only_on_loopback(hive: Stack) -> None:
    published = {
        service: [
            (binding["HostIp"], binding["HostPort"])
            for bindings in hive.inspect(service)["NetworkSettings"]["Ports"].values()
            for binding in bindings or ()
        ]
        for service in (*SERVICES, "nats")
    }
    assert published.pop("gateway") == [("127.0.0.1", str(hive.port))]
    assert set(map(tuple, published.values())) == {()}


@pytest.mark.parametrize("service", ["orchestrator", "messenger", "nats", "gateway", "bots"])
def test_a_killed_container_comes_back_and_nothing_is_lost(hive: Stack, service: str) -> None:
    before = result_of(hive, "parrot", f"before {service} dies", f"before-{service}")
    restarts = hive.restarts(service)

    hive.kill(service)

    after = result_of(hive, "parrot", f"after {service} died", f"after-{service}")
    assert after["output"]["text"] == f"after {service} died"
    assert until(lambda: hive.restarts(service) == restarts + 1, BACK_WITHIN_S)
    with hive.client() as client:
        assert until(lambda: client.get(f"/v1/tasks/{before['id']}").status_code == 200, BACK_WITHIN_S)
        known = client.get(f"/v1/tasks/{before['id']}").json()
    assert (known["state"], known["output"]) == ("completed", before["output"])


def test_the_image_says_whether_a_container_is_well(hive: Stack) -> None:
    for service in SERVICES:
        assert until(
            lambda name=service: hive.inspect(name)["State"]["Health"]["Status"] == "healthy",  # type: ignore[misc]
            BACK_WITHIN_S,
        ), f"{service}: {hive.inspect(service)['State']}"


def test_the_broker_says_that_acknowledged_is_on_disk(hive: Stack) -> None:
    asked = (
        "from shared.runtime.broker import read_durability; print(read_durability('http://nats:8222').synced)"
    )
    assert hive.inside("ops", "python", "-c", asked).stdout.strip() == "True"


def test_keys_are_made_once_and_survive_that_the_stack_is_started_again(hive: Stack) -> None:
    before = hive.inside("gateway", "cat", "/data/keys/gateway.creds").stdout
    hive.compose("up", "--detach")
    assert hive.inside("gateway", "cat", "/data/keys/gateway.creds").stdout == before
    assert result_of(hive, "parrot", "still here", "again")["state"] == "completed"
