"""Pools over HTTP."""

from typing import Any

import httpx
import pytest

from tests.support.api import ApiHive

ECHO = {"engine": "echo", "slots": 2}


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def call(hive: ApiHive, method: str, path: str, body: Any = None) -> httpx.Response:
    async with hive.client() as client:
        return await client.request(method, path, json=body)


async def test_a_pool_is_configured_and_shown_with_what_it_would_do_now(hive: ApiHive) -> None:
    answer = await call(hive, "PUT", "/v1/pools/coders", {"min": 2, "max": 5, "template": ECHO})
    assert answer.status_code == 200, answer.text
    told = (await call(hive, "GET", "/v1/pools/coders")).json()
    assert (told["min"], told["max"], told["size"], told["template"]["pool"]) == (2, 5, 0, "coders")
    assert (told["now"]["decision"], told["now"]["code"]) == ("hold", "host_silent")
    assert [each["name"] for each in (await call(hive, "GET", "/v1/pools")).json()["items"]] == ["coders"]


async def test_a_template_that_is_left_out_stays_and_a_new_pool_needs_one(hive: ApiHive) -> None:
    refused = await call(hive, "PUT", "/v1/pools/coders", {})
    assert (refused.status_code, refused.json()["code"]) == (422, "template_missing")
    await call(hive, "PUT", "/v1/pools/coders", {"template": ECHO})
    changed = (await call(hive, "PUT", "/v1/pools/coders", {"max": 3, "enabled": False})).json()
    assert (changed["max"], changed["template"]["slots"], changed["now"]["code"]) == (3, 2, "disabled")


async def test_a_pool_that_is_not_there_has_no_decisions(hive: ApiHive) -> None:
    for path in ("/v1/pools/coders", "/v1/pools/coders/decisions", f"/v1/pools/{'x' * 41}"):
        answer = await call(hive, "GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "pool_not_found")


async def test_looking_and_changing_need_the_scopes_of_bots(hive: ApiHive) -> None:
    reader = "hive_" + "r" * 40
    await hive.key(reader, scopes=("bots:read",), name="reader")
    async with hive.client(reader) as client:
        assert (await client.get("/v1/pools")).status_code == 200
        assert (await client.put("/v1/pools/coders", json={"template": ECHO})).status_code == 403
