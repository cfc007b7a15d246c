"""A browser gets in by a link that works once, and leaves."""

from datetime import timedelta

import httpx
import pytest

from services.gateway.access import COOKIE
from tests.support.api import ApiHive


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def link(hive: ApiHive, **body: object) -> str:
    async with hive.client() as client:
        answer = await client.post("/v1/login-links", json=body)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


async def open_link(hive: ApiHive, url: str) -> httpx.Response:
    async with hive.client(None) as browser:
        return await browser.get(url)


async def test_a_login_link_opens_a_session(hive: ApiHive) -> None:
    url = await link(hive)
    assert url.startswith("http://hive.test/login?token=hive_login_")
    async with hive.client(None) as browser:
        answer = await browser.get(url)
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert (await browser.get("/v1/tasks")).status_code == 200


async def test_a_login_link_needs_no_body(hive: ApiHive) -> None:
    async with hive.client() as client:
        assert (await client.post("/v1/login-links")).status_code == 201


async def test_a_login_link_works_once(hive: ApiHive) -> None:
    url = await link(hive)
    assert (await open_link(hive, url)).status_code == 200
    again = await open_link(hive, url)
    assert (again.status_code, again.json()["code"]) == (401, "login_used")
    assert "set-cookie" not in again.headers


async def test_a_login_link_expires(hive: ApiHive) -> None:
    url = await link(hive)
    hive.now += timedelta(minutes=10)
    late = await open_link(hive, url)
    assert (late.status_code, late.json()["code"]) == (401, "login_expired")


@pytest.mark.parametrize("query", ["", "?token=", "?token=hive_login_nobody-knows", "?token=%ff"])
async def test_what_is_no_login_link_opens_nothing(hive: ApiHive, query: str) -> None:
    answer = await open_link(hive, f"/login{query}")
    assert (answer.status_code, answer.json()["code"]) == (401, "login_unknown")


async def test_a_session_may_what_its_link_says(hive: ApiHive) -> None:
    url = await link(hive, scopes=["bots:read"])
    async with hive.client(None) as browser:
        await browser.get(url)
        assert (await browser.get("/v1/bots")).status_code == 200
        assert (await browser.get("/v1/tasks")).json()["code"] == "scope_missing"


async def test_what_a_revoked_key_opened_is_closed(hive: ApiHive) -> None:
    secret = "hive_of_someone_who_leaves"
    key_id = await hive.key(secret)
    async with hive.client(secret) as client:
        first, second = [(await client.post("/v1/login-links")).json()["url"] for _ in range(2)]
    async with hive.client(None) as browser:
        await browser.get(first)
        assert (await browser.get("/v1/tasks")).status_code == 200

        await hive.revoke(key_id)

        assert (await browser.get("/v1/tasks")).json()["code"] == "key_revoked"
    assert (await open_link(hive, second)).json()["code"] == "login_used"


async def test_a_session_ends_with_the_key_that_opened_it(hive: ApiHive) -> None:
    secret = "hive_of_someone_for_an_hour"
    await hive.key(secret, expires_in=timedelta(hours=1))
    async with hive.client(secret) as client:
        url = (await client.post("/v1/login-links")).json()["url"]
    async with hive.client(None) as browser:
        await browser.get(url)
        hive.now += timedelta(minutes=61)

        assert (await browser.get("/v1/tasks")).json()["code"] == "key_expired"


async def test_logout_ends_the_session(hive: ApiHive) -> None:
    async with hive.client(None) as browser:
        await browser.get(await link(hive))
        secret = browser.cookies[COOKIE]
        assert (await browser.post("/logout")).json()["code"] == "origin_refused"
        answer = await browser.post("/logout", headers={"Origin": "http://hive.test"})
        assert answer.status_code == 200
        assert COOKIE not in browser.cookies
        browser.cookies.set(COOKIE, secret)
        assert (await browser.get("/v1/tasks")).json()["code"] == "key_revoked"


async def test_while_keys_are_not_decided_there_is_no_session(hive: ApiHive) -> None:
    url = await link(hive)
    hive.undecided = True
    answer = await open_link(hive, url)
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers
