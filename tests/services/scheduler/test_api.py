"""What is known of bots, over HTTP."""

import csv
from random import Random

import httpx
import pytest

from shared.contracts.scheduler.commands import ResetPerformance
from shared.contracts.words import BotId, TaskType
from tests.services.scheduler.test_estimate import traffic
from tests.support.api import ApiHive


@pytest.fixture
async def hive() -> ApiHive:
    one = ApiHive()
    await one.key()
    one.scheduler.history.bots("alpha", "beta")
    one.scheduler.history.bots("gamma", types=(TaskType.WRITING,))
    for _ in range(4):
        one.scheduler.history.done("alpha", run_s=2_000.0, cost_usd=0.5)
    return one


async def got(hive: ApiHive, path: str, status: int = 200) -> httpx.Response:
    async with hive.client() as client:
        answer = await client.get(path)
    assert answer.status_code == status, answer.text
    return answer


async def test_the_best_come_first_with_reasons_and_the_others_with_theirs(hive: ApiHive) -> None:
    told = (await got(hive, "/v1/recommendations?type=code")).json()
    assert [(each["bot"], each["rank"], each["standing"]["samples"]) for each in told["ranked"]] == [
        ("alpha", 1, 4),
        ("beta", 2, 0),
    ]
    assert told["ranked"][0]["reasons"][0] == "succeeds in 100% of its tasks, recent ones counting more"
    assert "counts as average" in told["ranked"][1]["reasons"][0]
    assert told["others"] == [{"bot": "gamma", "reason": "does writing only"}]


async def test_what_cannot_be_asked_is_said(hive: ApiHive) -> None:
    assert (await got(hive, "/v1/recommendations", 400)).json()["errors"][0]["parameter"] == "type"
    await got(hive, "/v1/recommendations?type=dancing", 400)
    assert (await got(hive, "/v1/task-types/dancing/performance", 404)).json()["code"] == "type_not_found"
    assert (await got(hive, "/v1/bots/nobody/performance", 404)).json()["code"] == "bot_not_found"
    assert (await got(hive, "/v1/bots/a.b/performance", 404)).json()["code"] == "bot_not_found"
    await got(hive, "/v1/whatif?policy=lucky", 400)
    await got(hive, "/v1/whatif?since=2030-01-01T00:00:00", 400)
    await got(hive, "/v1/performance/export?format=xml", 400)


async def test_one_may_ask_since_the_beginning_of_time(hive: ApiHive) -> None:
    for since in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"):
        await got(hive, f"/v1/whatif?since={since}", 200)


async def test_a_bot_and_a_type_are_shown(hive: ApiHive) -> None:
    (known,) = (await got(hive, "/v1/bots/alpha/performance")).json()["types"]
    assert (known["type"], known["samples"], known["run_s"], known["cost_usd"]) == ("code", 4, 2000.0, 0.5)
    by_type = (await got(hive, "/v1/task-types/code/performance")).json()
    assert (by_type["recent"], by_type["run_s"]["p95"], len(by_type["bots"])) == (4, 2000.0, 1)
    assert (await got(hive, "/v1/task-types/writing/performance")).json()["run_s"] == {}


async def test_a_reset_is_a_command_of_the_caller_and_needs_the_scope(hive: ApiHive) -> None:
    await hive.key("hive_reader", scopes=("bots:read",))
    async with hive.client("hive_reader") as reader:
        assert (await reader.post("/v1/bots/alpha/performance/reset")).status_code == 403
    async with hive.client() as client:
        answer = await client.post("/v1/bots/alpha/performance/reset", json={"type": "code"})
        assert answer.status_code == 200
        assert "Hive-Version" in answer.headers
        assert (await client.post("/v1/bots/nobody/performance/reset")).status_code == 404
        hive.undecided = True
        assert (await client.post("/v1/bots/alpha/performance/reset")).status_code == 202
    assert hive.sent[-2:] == [
        ResetPerformance(bot_id=BotId("alpha"), type=TaskType.CODE),
        ResetPerformance(bot_id=BotId("alpha")),
    ]


@pytest.mark.parametrize("page", [1, 500])
async def test_everything_is_exported_however_many_pages_it_takes(
    hive: ApiHive, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.api.performance.PAGE", page)
    hive.scheduler.history.done("beta", TaskType.WRITING)
    lines = (await got(hive, "/v1/performance/export")).text.splitlines()
    assert [line[:28] for line in lines] == ['{"bot":"alpha","type":"code"', '{"bot":"beta","type":"writin']
    rows = list(csv.DictReader((await got(hive, "/v1/performance/export?format=csv")).text.splitlines()))
    assert [(row["bot"], row["type"], row["samples"]) for row in rows] == [
        ("alpha", "code", "4"),
        ("beta", "writing", "1"),
    ]


async def test_another_policy_is_estimated_or_too_little_is_known(hive: ApiHive) -> None:
    empty = (await got(hive, "/v1/whatif?policy=random&type=code")).json()
    assert (empty["estimate"], empty["decisions"]) == (None, 0)
    assert empty["detail"].startswith("not enough data")
    hive.scheduler.trials = traffic(Random(1).randrange(9), "sure", 400)
    told = (await got(hive, "/v1/whatif?policy=random&since=2029-12-31T00:00:00Z")).json()
    assert told["used"] == 400
    cost = told["estimate"]["cost_usd"]
    assert cost["low"] <= cost["estimate"] <= cost["high"]
