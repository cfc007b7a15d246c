"""What is answered without a key."""

import re

import pytest

from services.gateway.backpressure import Load
from shared.contracts.orchestrator.protocol import HostReport, Running
from shared.contracts.words import BotId
from tests.support.api import ADMIN, ApiHive
from tests.support.scenario import NOON


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_needs_nothing_from_elsewhere(path: str) -> None:
    hive = ApiHive()
    async with hive.client(None) as client:
        page = await client.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'self'" in page.headers["content-security-policy"]
        wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert wanted
        for each in wanted:
            assert each.startswith("/")
            answer = await client.get(each)
            assert (answer.status_code, answer.content != b"") == (200, True), each


async def test_the_script_of_the_docs_is_ours_and_kept() -> None:
    async with ApiHive().client(None) as client:
        script = await client.get("/docs/files/swagger-ui-bundle.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert b"SwaggerUIBundle" in script.content
        assert script.headers["cache-control"] == "public, max-age=86400"
        assert (await client.get("/docs/files/..%2f__init__.py")).status_code == 404
        assert (await client.get("/docs/files/index.html")).status_code == 404


async def test_readiness_is_told() -> None:
    hive = ApiHive()
    async with hive.client(None) as client:
        assert (await client.get("/livez")).json() == {"live": True}
        assert (await client.get("/readyz")).json() == {"ready": True, "problems": [], "unanswering": []}
        hive.broker_away = True
        away = await client.get("/readyz")
    assert away.status_code == 503
    assert away.json()["problems"] == ["the broker is away: nothing can be stored, and no service asked"]


async def test_a_service_that_does_not_answer_is_named_while_requests_are_still_taken() -> None:
    hive = ApiHive()
    hive.silent.add("orchestrator")
    async with hive.client(None) as client:
        silent = await client.get("/readyz")
        hive.silent.clear()
        a_moment_later = await client.get("/readyz")
        hive.ticks += 1.0
        back = await client.get("/readyz")
    assert (silent.status_code, silent.json()["unanswering"]) == (200, ["orchestrator"])
    assert a_moment_later.json() == silent.json()  # nobody is asked more than once a second
    assert back.json()["unanswering"] == []


async def test_every_answer_forbids_to_guess_its_type() -> None:
    async with ApiHive().client(None) as client:
        for path in ("/", "/livez", "/nothing", "/v1/tasks"):
            assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


async def test_what_is_not_there_and_what_cannot_be_done_are_problems() -> None:
    async with ApiHive().client(ADMIN) as client:
        missing = await client.get("/nothing/here")
        wrong = await client.put("/v1/tasks")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "OPTIONS", "POST"}


async def test_the_document_tells_every_route_and_every_problem() -> None:
    hive = ApiHive()
    async with hive.client(None) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    told = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    there = {
        (route.path_format, method)
        for route in hive.app.routes
        if route.path.startswith("/v1")
        for method in route.methods
        if method != "OPTIONS"
    }
    assert told == there
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            numbers = set(operation["responses"])
            assert {"400", "401", "403", "429", "500", "503"} <= numbers, (method, path)
            assert ("404" in numbers) >= ("{" in path), (method, path)
            assert ({"413", "415"} <= numbers) == ("requestBody" in operation), (method, path)
    assert {"409", "422"} <= set(document["paths"]["/v1/tasks"]["post"]["responses"])
    operations = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(operations) == len(set(operations))


async def test_the_status_tells_who_answers_and_what_waits() -> None:
    hive = ApiHive()
    await hive.key()
    report = HostReport(
        host_id="local", running=(Running(bot_id=BotId("a"), generation=1, pid=7),), engines=("echo",)
    )
    hive.hosts.hear(report, NOON, hive.ticks - 6)
    hive.loads["orchestrator"] = Load(messages=3, bytes=250, bytes_max=1_000, oldest_s=1.5)
    async with hive.client() as client:
        await client.post("/v1/tasks", json={"content": "x"})
        told = (await client.get("/v1/status")).json()
        hive.broker_away = True
        away = (await client.get("/v1/status")).json()
    assert [(each["name"], each["reachable"]) for each in told["services"]] == [
        ("orchestrator", True),
        ("messenger", True),
        ("gateway", True),
    ]
    assert told["queues"] == [
        {"service": "orchestrator", "waiting": 3, "bytes": 250, "share": 0.25, "oldest_s": 1.5}
    ]
    assert told["counts"]["tasks"] == {"queued": 1}
    assert [each["reachable"] for each in away["services"]] == [False, False, False]
    assert told["hosts"] == [
        {"name": "local", "state": "silent", "running": 1, "engines": ["echo"], "last_heard_s": 6.0}
    ]
    assert (away["counts"], away["hosts"]) == (None, None)
