"""Who is let in, and what the others are told."""

from datetime import timedelta

import httpx
import pytest

from services.gateway.access import COOKIE
from tests.support.api import ADMIN, ApiHive

HOUR = timedelta(hours=1)
READER = "hive_reader-secret-of-the-tests"
SESSION = "hive_session_secret-of-the-tests"


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def get(hive: ApiHive, secret: str | None, path: str = "/v1/tasks", **headers: str) -> httpx.Response:
    async with hive.client(secret, **headers) as client:
        return await client.get(path)


async def test_without_a_key_nothing_under_v1_is_answered(hive: ApiHive) -> None:
    async with hive.client(None) as client:
        for route in hive.app.routes:
            if not route.path.startswith("/v1"):
                continue
            path = route.path_format.replace("{", "").replace("}", "")
            for method in route.methods:
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()["code"]) == (401, "key_missing"), (method, path)
                assert answer.headers["www-authenticate"] == 'Bearer realm="hive"'


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/docs", "/openapi.json", "/docs/files/start.js"])
async def test_the_open_pages_need_no_key(hive: ApiHive, path: str) -> None:
    assert (await get(hive, None, path)).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("Basic aGk6aG8=", "key_malformed"),
        ("Bearer", "key_malformed"),
        ("Bearer hive_nobody-knows-this", "key_unknown"),
        ("Bearer \xff\xfe", "key_unknown"),
    ],
)
async def test_what_is_no_key_is_refused(hive: ApiHive, authorization: str, code: str) -> None:
    async with hive.client(None) as client:
        answer = await client.get("/v1/tasks", headers={"Authorization": authorization.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_an_expired_key_opens_nothing(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("tasks:read",), expires_in=HOUR)
    assert (await get(hive, READER)).status_code == 200
    hive.now += HOUR
    answer = await get(hive, READER)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_expired")


async def test_a_revoked_key_opens_nothing(hive: ApiHive) -> None:
    key_id = await hive.key(READER, scopes=("tasks:read",))
    assert (await get(hive, READER)).status_code == 200
    await hive.revoke(key_id)
    answer = await get(hive, READER)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")


async def test_a_key_may_what_its_scopes_say(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("tasks:read",))
    async with hive.client(READER) as client:
        assert (await client.get("/v1/tasks")).status_code == 200
        for method, path in [
            ("POST", "/v1/tasks"),
            ("POST", "/v1/tasks/batch"),
            ("POST", "/v1/tasks/t/cancel"),
            ("GET", "/v1/bots"),
            ("POST", "/v1/bots"),
            ("DELETE", "/v1/bots/b"),
            ("GET", "/v1/dlq"),
            ("GET", "/v1/keys"),
            ("POST", "/v1/keys"),
            ("POST", "/v1/login-links"),
        ]:
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path


async def test_every_key_may_ask_for_the_status(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("bots:read",))
    assert (await get(hive, READER, "/v1/status")).status_code == 200


async def test_a_key_with_a_limit_is_told_of_it_and_held_to_it(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("tasks:read",), rate=2)
    first, second, third = [await get(hive, READER) for _ in range(3)]
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert first.headers["ratelimit-limit"] == "2"
    assert [answer.headers["ratelimit-remaining"] for answer in (first, second, third)] == ["1", "0", "0"]
    assert third.json()["code"] == "rate_limited"
    assert third.headers["retry-after"] == "60"
    hive.ticks += 60
    assert (await get(hive, READER)).status_code == 200


async def test_a_refused_request_of_a_limited_key_tells_the_limit_too(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("tasks:read",), rate=2)
    answer = await get(hive, READER, "/v1/bots")
    assert (answer.status_code, answer.headers["ratelimit-remaining"]) == (403, "1")


async def test_a_key_without_a_limit_is_told_of_none(hive: ApiHive) -> None:
    answers = [await get(hive, ADMIN) for _ in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit-limit" not in answers[0].headers


async def test_use_is_noted_at_most_once_an_hour(hive: ApiHive) -> None:
    key_id = await hive.key(READER, scopes=("tasks:read",))
    for _ in range(3):
        await get(hive, READER)
    assert hive.used == [key_id]
    hive.now += HOUR + timedelta(seconds=1)
    await get(hive, READER)
    assert hive.used == [key_id, key_id]


async def test_who_was_not_let_in_is_noted(hive: ApiHive) -> None:
    await hive.key(READER, scopes=("tasks:read",))
    await get(hive, "hive_nobody-knows-this")
    await get(hive, READER, "/v1/bots")
    assert hive.denied == [("127.0.0.1", "key_unknown"), ("127.0.0.1", "scope_missing")]


async def cookie_post(hive: ApiHive, **headers: str) -> httpx.Response:
    async with hive.client(None, **headers) as client:
        client.cookies.set(COOKIE, SESSION)
        return await client.post("/v1/tasks", json={"content": "git status"})


async def test_a_session_cookie_opens_the_api(hive: ApiHive) -> None:
    await hive.key(SESSION, kind="session")
    async with hive.client(None) as client:
        client.cookies.set(COOKIE, SESSION)
        assert (await client.get("/v1/tasks")).status_code == 200
    assert (await cookie_post(hive, Origin="http://hive.test")).status_code == 201


@pytest.mark.parametrize("origin", [None, "null", "http://evil.test", "http://hive.test.evil.test"])
async def test_another_site_can_change_nothing_with_the_cookie(hive: ApiHive, origin: str | None) -> None:
    await hive.key(SESSION, kind="session")
    answer = await cookie_post(hive, **({} if origin is None else {"Origin": origin}))
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")


async def test_a_cookie_is_no_key_and_a_key_no_cookie(hive: ApiHive) -> None:
    await hive.key(SESSION, kind="session")
    assert (await get(hive, SESSION)).json()["code"] == "key_unknown"
    async with hive.client(None) as client:
        client.cookies.set(COOKIE, ADMIN)
        assert (await client.get("/v1/tasks")).json()["code"] == "key_unknown"
