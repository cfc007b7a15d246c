"""Query parameters and headers: typed, each at most once, no unknown ones."""

from datetime import datetime
from typing import Annotated

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, get

from shared.runtime.parameters import Parameters, at_least, given, idempotency_key, wants_minimal
from shared.runtime.problems import response_of


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str | msgspec.UnsetType = msgspec.UNSET
    wait: Annotated[float, msgspec.Meta(ge=0, le=30)] = 0.0
    all: bool = False


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    since: Annotated[datetime, msgspec.Meta(tz=True)]


ASKED = Parameters(Asked)
SINCE = Parameters(Since)


@get("/since")
async def since(request: Request) -> str:
    return SINCE.read(request).since.isoformat()


@get("/list")
async def listing(request: Request) -> dict[str, object]:
    asked = ASKED.read(request)
    return {"name": given(asked.name), "wait": asked.wait, "all": asked.all}


@get("/headers")
async def headers(request: Request) -> dict[str, object]:
    return {
        "key": idempotency_key(request),
        "at_least": at_least(request),
        "minimal": wants_minimal(request),
    }


APP = Litestar(
    [listing, headers, since],
    exception_handlers={Exception: response_of},
    openapi_config=None,
    logging_config=None,
)


async def ask(path: str, **told: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=APP), base_url="http://test") as client:
        return await client.get(path, headers={name.replace("_", "-"): value for name, value in told.items()})


async def test_parameters_have_types_and_defaults() -> None:
    assert (await ask("/list")).json() == {"name": None, "wait": 0.0, "all": False}
    answer = await ask("/list?name=a%20b&wait=2.5&all=true")
    assert answer.json() == {"name": "a b", "wait": 2.5, "all": True}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("wait=soon", "wait"),
        ("wait=31", "wait"),
        ("wait=nan", "wait"),
        ("wait=inf", "wait"),
        ("wait=-1", "wait"),
        ("wait=", "wait"),
        ("all=perhaps", "all"),
        ("stat=failed", "stat"),
    ],
)
async def test_a_wrong_parameter_is_named(query: str, parameter: str) -> None:
    answer = await ask(f"/list?{query}")
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_query"
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("query", ["wait=1&wait=2", "name=%ff", "&".join(f"a{i}=1" for i in range(60))])
async def test_a_query_that_cannot_be_read_is_a_bad_request(query: str) -> None:
    answer = await ask(f"/list?{query}")
    assert answer.status_code == 400


async def test_headers_are_read() -> None:
    answer = await ask("/headers", Idempotency_Key="order-7", Hive_Version="12", Prefer="return=minimal")
    assert answer.json() == {"key": "order-7", "at_least": 12, "minimal": True}
    assert (await ask("/headers")).json() == {"key": None, "at_least": 0, "minimal": False}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "k" * 201),
        ("Hive-Version", "-1"),
        ("Hive-Version", "one"),
        ("Hive-Version", "9" * 19),
    ],
)
async def test_a_wrong_header_is_named(header: str, value: str) -> None:
    answer = await ask("/headers", **{header: value})
    assert answer.status_code == 400
    assert [error["header"] for error in answer.json()["errors"]] == [header]


async def test_what_must_be_given_is_asked_for() -> None:
    answer = await ask("/since")
    assert answer.status_code == 400
    assert "`since`" in answer.json()["detail"]


async def test_a_moment_is_written_as_one() -> None:
    assert (await ask("/since?since=2026-01-31T12:00:00Z")).status_code == 200
    for number in ("0", "0.5", "-1e9", ""):
        answer = await ask(f"/since?since={number}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["parameter"] == "since"
