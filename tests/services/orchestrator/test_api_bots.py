"""Bots over HTTP."""

from typing import Any

import httpx
import pytest

from services.orchestrator.commands import NoteBotStopped, NoteBotUp, NoteLaunchFailed
from shared.contracts.config import Config
from shared.contracts.orchestrator.commands import LaunchBot, OpenCircuit
from shared.contracts.orchestrator.facts import TaskError
from shared.contracts.orchestrator.queries import GetBot
from shared.contracts.words import BotId
from tests.support.api import ApiHive

ALPHA = BotId("alpha")


class LiveHive(ApiHive):
    """One whose bots come up, stop, or fail when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.host_refuses = False
        self.waited: list[GetBot] = []

    async def _answer(self, query: Any, service: str | None) -> Any:
        if isinstance(query, GetBot) and (query.wait_up_s or query.wait_gone_s):
            self.waited.append(query)
            bot = await self.bot(query.bot_id)
            generation = bot.generation
            if self.host_refuses:
                error = TaskError(code="no_workspace", detail="workspace /x is outside the roots")
                await self.decide(NoteLaunchFailed(bot_id=query.bot_id, generation=generation, error=error))
            elif query.wait_up_s:
                await self.decide(NoteBotUp(bot_id=query.bot_id, generation=generation, pid=7, host="local"))
            else:
                await self.decide(NoteBotStopped(bot_id=query.bot_id, generation=generation))
        return await super()._answer(query, service)


@pytest.fixture
async def hive() -> LiveHive:
    made = LiveHive()
    await made.key()
    return made


async def call(hive: ApiHive, method: str, path: str, body: Any = None) -> httpx.Response:
    async with hive.client() as client:
        return await client.request(method, path, json=body) if body else await client.request(method, path)


async def launch(hive: ApiHive, name: str = ALPHA, **more: Any) -> httpx.Response:
    return await call(hive, "POST", "/v1/bots", {"name": name, "engine": "echo", **more})


async def test_a_launched_bot_lives_when_the_answer_comes(hive: LiveHive) -> None:
    answer = await launch(hive)
    assert (answer.status_code, answer.json()["state"], answer.json()["pid"]) == (201, "idle", 7)
    assert answer.headers["location"] == "/v1/bots/alpha"
    assert hive.waited[0].wait_up_s == 5.0
    assert (await call(hive, "GET", "/v1/bots/alpha")).json()["name"] == "alpha"


async def test_every_field_reaches_the_owner(hive: LiveHive) -> None:
    await launch(
        hive,
        engine="command",
        types=["code", "testing"],
        slots=5,
        pool="fast",
        workspace="/work",
        env=["HOME", "_X1"],
        argv=["tool", "{input}"],
        allow=["git"],
        host="other",
        restart={"restart": "never", "crashes_max": 2},
        memory_mb=512,
    )
    command = next(each for each in hive.sent if isinstance(each, LaunchBot))
    spec = command.spec
    assert (spec.engine, spec.types, spec.slots, spec.pool) == ("command", ("code", "testing"), 5, "fast")
    assert (spec.workspace, spec.env, spec.argv) == ("/work", ("HOME", "_X1"), ("tool", "{input}"))
    assert (spec.allow, spec.host) == (("git",), "other")
    assert (spec.restart.restart, spec.restart.crashes_max) == ("never", 2)
    assert spec.memory_mb == 512


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"name": "a" * 51}, "/name"),
        ({"name": "alpha\n"}, "/name"),
        ({"engine": ""}, "/engine"),
        ({"types": ["news"]}, "/types/0"),
        ({"slots": 0}, "/slots"),
        ({"slots": 65}, "/slots"),
        ({"env": ["A=B"]}, "/env/0"),
        ({"argv": ["a\0b"]}, "/argv/0"),
        ({"workspace": ""}, "/workspace"),
        ({"restart": {"restart": "sometimes"}}, "/restart/restart"),
        ({"count": 0}, "/count"),
        ({"memory": 5}, "/memory"),
        ({"memory_mb": 63}, "/memory_mb"),
        ({"memory_mb": 1_048_577}, "/memory_mb"),
    ],
)
async def test_a_bad_bot_is_pointed_at(hive: LiveHive, more: dict[str, Any], pointer: str) -> None:
    answer = await launch(hive, **more)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_bot_that_is_not_up_in_time_is_on_its_way(hive: LiveHive) -> None:
    answer = await call(hive, "POST", "/v1/bots?wait=0", {"name": "alpha", "engine": "echo"})
    assert (answer.status_code, answer.json()["state"]) == (202, "starting")
    assert (answer.headers["location"], answer.headers["retry-after"]) == ("/v1/bots/alpha", "1")


async def test_a_bot_that_cannot_run_says_why(hive: LiveHive) -> None:
    hive.host_refuses = True
    answer = await launch(hive)
    assert (answer.status_code, answer.json()["code"]) == (409, "launch_failed")
    assert "outside the roots" in answer.json()["detail"]


async def test_a_launch_that_is_not_decided_in_time_is_found_later(hive: LiveHive) -> None:
    hive.undecided = True
    answer = await launch(hive)
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/bots/alpha")
    assert (await call(hive, "GET", "/v1/bots/alpha")).status_code == 202
    assert (await call(hive, "GET", "/v1/bots/alpha/history")).status_code == 202


async def test_the_same_bot_twice_is_one_and_another_of_its_name_is_refused(hive: LiveHive) -> None:
    await launch(hive)
    again = await launch(hive)
    other = await launch(hive, slots=9)
    assert again.status_code == 200
    assert (other.status_code, other.json()["code"]) == (409, "bot_exists")


async def test_many_bots_alike_are_launched_at_once(hive: LiveHive) -> None:
    await launch(hive, "a-2", slots=9)
    answer = await launch(hive, "a", count=3)
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [(item["name"], item["status"]) for item in items] == [("a-1", 201), ("a-2", 409), ("a-3", 201)]
    assert items[1]["problem"]["code"] == "bot_exists"
    assert items[0]["bot"]["state"] == "idle"


async def test_bots_are_listed(hive: LiveHive) -> None:
    for name in ("a", "b"):
        await launch(hive, name)
    listed = await call(hive, "GET", "/v1/bots?limit=2&pool=default&retired=false")
    assert [bot["name"] for bot in listed.json()["items"]] == ["a", "b"]
    assert (await call(hive, "GET", "/v1/bots?pool=a.b")).status_code == 400


async def test_a_bot_is_stopped_started_restarted_and_retired(hive: LiveHive) -> None:
    await launch(hive)
    stopped = await call(hive, "POST", "/v1/bots/alpha/stop")
    started = await call(hive, "POST", "/v1/bots/alpha/start?wait=2")
    restarted = await call(hive, "POST", "/v1/bots/alpha/restart?wait=0")
    retired = await call(hive, "DELETE", "/v1/bots/alpha")
    answers = [stopped, started, restarted, retired]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json()["state"] for answer in answers] == ["stopped", "idle", "starting", "retired"]
    assert all(answer.headers["hive-version"] for answer in answers)
    assert [(query.wait_up_s, query.wait_gone_s) for query in hive.waited] == [(5, 0), (0, 5), (2, 0), (0, 5)]


async def test_a_change_that_is_not_decided_in_time_is_accepted(hive: LiveHive) -> None:
    await launch(hive)
    hive.undecided = True
    answer = await call(hive, "POST", "/v1/bots/alpha/stop")
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/bots/alpha")


async def test_a_bots_history_is_a_page(hive: LiveHive) -> None:
    await launch(hive)
    answer = await call(hive, "GET", "/v1/bots/alpha/history?limit=5")
    assert answer.json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("name", ["nobody", "a.b", "*", "%3E", "a" * 51])
async def test_a_bot_that_is_not_there_is_not_found(hive: LiveHive, name: str) -> None:
    for method, path in [
        ("GET", ""),
        ("GET", "/history"),
        ("POST", "/stop"),
        ("POST", "/start"),
        ("POST", "/restart"),
        ("DELETE", ""),
    ]:
        answer = await call(hive, method, f"/v1/bots/{name}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "bot_not_found"), path


async def test_a_circuit_is_opened_for_as_long_as_configured_or_asked(hive: LiveHive) -> None:
    await launch(hive)
    answer = await call(hive, "POST", "/v1/bots/alpha/circuit", {"state": "open", "reason": "repair"})
    assert answer.status_code == 200
    assert (answer.json()["circuit"]["state"], answer.json()["circuit"]["reason"]) == ("open", "repair")
    command = hive.sent[-1]
    assert isinstance(command, OpenCircuit)
    assert command.for_s == Config().circuit_open_s == 300.0
    await call(hive, "POST", "/v1/bots/alpha/circuit", {"state": "open", "for_s": 900})
    command = hive.sent[-1]
    assert isinstance(command, OpenCircuit)
    assert command.for_s == 900.0


async def test_a_circuit_is_closed_and_closing_it_again_changes_nothing(hive: LiveHive) -> None:
    await launch(hive)
    await call(hive, "POST", "/v1/bots/alpha/circuit", {"state": "open"})
    for _ in range(2):
        answer = await call(hive, "POST", "/v1/bots/alpha/circuit", {"state": "closed"})
        assert (answer.status_code, answer.json()["circuit"]) == (200, None)


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("alpha", {"state": "half_open"}, 400, "invalid_body"),
        ("alpha", {"state": "open", "for_s": 0}, 400, "invalid_body"),
        ("nobody", {"state": "open"}, 404, "bot_not_found"),
    ],
)
async def test_what_a_circuit_cannot_be_is_refused(
    hive: LiveHive, name: str, body: dict[str, Any], status: int, code: str
) -> None:
    await launch(hive)
    answer = await call(hive, "POST", f"/v1/bots/{name}/circuit", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
