"""Keys over HTTP."""

import pytest

from tests.support.api import ADMIN, ApiHive

KEEPER = "hive_keeper-secret-of-the-tests"


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def test_a_new_key_works_at_once_and_its_secret_is_told_once(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/keys", json={"name": "ci", "scopes": ["tasks:read"]})
        made = answer.json()
        assert answer.status_code == 201
        assert answer.headers["hive-version"] == str(made["version"])
        assert made["key"].startswith("hive_")
        assert made["rate_per_minute"] == hive.config.bot_key_requests_per_minute
        shown = await client.get(f"/v1/keys/{made['id']}")
        assert made["key"] not in shown.text
        assert shown.json()["prefix"] == made["key"][:9]
    async with hive.client(made["key"]) as client:
        assert (await client.get("/v1/tasks")).status_code == 200
    stored = b"".join(bytes(fact) for each in hive.store._log for fact in each.commit.facts)
    assert made["key"].encode() not in stored


async def test_an_admin_key_has_no_limit_unless_one_is_asked_for(hive: ApiHive) -> None:
    async with hive.client() as client:
        free = await client.post("/v1/keys", json={"name": "a", "scopes": ["admin"]})
        bound = await client.post("/v1/keys", json={"name": "a", "scopes": ["admin"], "rate_per_minute": 7})
        other = await client.post("/v1/keys", json={"name": "a", "rate_per_minute": None})
    assert free.json()["rate_per_minute"] is None
    assert bound.json()["rate_per_minute"] == 7
    assert other.json()["rate_per_minute"] is None


@pytest.mark.parametrize("name", ["a/b", "a\nb", "a\u2028b", "\x1b[31m", "\u202eann"])
async def test_a_name_that_cannot_stand_in_a_path_or_a_list_is_refused(hive: ApiHive, name: str) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/keys", json={"name": name, "scopes": ["messages:read"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_name")
        assert answer.json()["errors"][0]["pointer"] == "/name"
        assert (await client.post("/v1/keys", json={"name": "Ann of % the ä"})).status_code == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "a", "rate_per_minute": 0}, "/rate_per_minute"),
        ({"name": "a", "expires_at": "tomorrow"}, "/expires_at"),
        ({"name": "a", "expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
        ({"name": "a", "secret": "mine"}, "/secret"),
    ],
)
async def test_a_bad_key_is_pointed_at(hive: ApiHive, body: dict[str, object], pointer: str) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/keys", json=body)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_key_that_would_have_expired_already_is_not_made(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/keys", json={"name": "a", "expires_at": "2020-01-01T00:00:00Z"})

    assert (422, "expires_in_the_past") == (answer.status_code, answer.json()["code"])
    assert "/expires_at" == answer.json()["errors"][0]["pointer"]


async def test_a_key_gives_away_no_more_than_it_has(hive: ApiHive) -> None:
    await hive.key(KEEPER, scopes=("keys:write", "tasks:read"))
    async with hive.client(KEEPER) as client:
        assert (
            await client.post("/v1/keys", json={"name": "a", "scopes": ["tasks:read"]})
        ).status_code == 201
        for scopes in (["admin"], ["tasks:read", "bots:write"]):
            answer = await client.post("/v1/keys", json={"name": "a", "scopes": scopes})
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
        free = await client.post(
            "/v1/keys", json={"name": "a", "scopes": ["tasks:read"], "rate_per_minute": None}
        )
        assert free.status_code == 403


async def test_a_key_revokes_no_key_that_may_more(hive: ApiHive) -> None:
    admin = await hive.key("hive_another-admin-of-the-tests")
    await hive.key(KEEPER, scopes=("keys:write",))
    async with hive.client(KEEPER) as client:
        assert (await client.delete(f"/v1/keys/{admin}")).status_code == 403


async def test_a_revoked_key_is_shown_as_ended(hive: ApiHive) -> None:
    key_id = await hive.key("hive_secret-of-one-to-revoke", scopes=("tasks:read",))
    async with hive.client() as client:
        for _ in range(2):
            answer = await client.delete(f"/v1/keys/{key_id}")
            assert answer.status_code == 200
            assert answer.json()["revoked_at"] is not None
        listed = await client.get("/v1/keys")
        ended = await client.get("/v1/keys?ended=true")
    assert key_id not in [key["id"] for key in listed.json()["items"]]
    assert key_id in [key["id"] for key in ended.json()["items"]]


@pytest.mark.parametrize("key_id", ["nobody", "a.b", "*", "%3E", "a" * 80])
async def test_a_key_that_is_not_there_is_not_found(hive: ApiHive, key_id: str) -> None:
    async with hive.client() as client:
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"/v1/keys/{key_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "key_not_found")


async def test_keys_come_in_pages(hive: ApiHive) -> None:
    for number in range(3):
        await hive.key(f"hive_secret-{number}-of-the-tests", scopes=("tasks:read",))
    async with hive.client() as client:
        first = (await client.get("/v1/keys?limit=3")).json()
        rest = (await client.get(f"/v1/keys?limit=3&cursor={first['next_cursor']}")).json()
    assert [len(first["items"]), len(rest["items"])] == [3, 1]
    assert rest["next_cursor"] is None


async def test_a_key_that_is_not_decided_in_time_is_not_promised(hive: ApiHive) -> None:
    hive.undecided = True
    async with hive.client(ADMIN) as client:
        answer = await client.post("/v1/keys", json={"name": "a"})
    assert answer.status_code == 503
    assert "key" not in answer.json()


async def test_a_revocation_that_is_not_decided_in_time_is_accepted(hive: ApiHive) -> None:
    key_id = await hive.key("hive_secret-of-one-to-revoke", scopes=("tasks:read",))
    hive.undecided = True
    async with hive.client() as client:
        answer = await client.delete(f"/v1/keys/{key_id}")
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/keys/{key_id}")


async def test_who_is_no_administrator_takes_nobody_elses_name_and_so_nobody_elses_letters(
    hive: ApiHive,
) -> None:
    scopes = ("keys:write", "messages:read", "tasks:read")
    await hive.key(KEEPER, scopes=scopes, name="keeper")
    ann = await hive.key("hive_ann-secret-of-the-tests", name="ann")
    await hive.revoke(ann)
    async with hive.client(KEEPER) as client:
        taken = await client.post("/v1/keys", json={"name": "ann", "scopes": ["messages:read"]})
        assert (taken.status_code, taken.json()["code"]) == (403, "name_taken")
        for name, scope in [("ann", "tasks:read"), ("keeper", "messages:read"), ("bea", "messages:read")]:
            made = await client.post("/v1/keys", json={"name": name, "scopes": [scope]})
            assert made.status_code == 201, name
    async with hive.client() as admin:
        made = await admin.post("/v1/keys", json={"name": "ann", "scopes": ["messages:read"]})
        assert made.status_code == 201
