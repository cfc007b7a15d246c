"""Request bodies: strict, bounded, and what is wrong is pointed at."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, post

from shared.runtime.bodies import Body, pointed
from shared.runtime.problems import response_of


class Item(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)]
    count: int = 1


class Order(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]
    note: str | None = None


ORDER = Body(Order, bytes_max=1_000)
OPTIONAL = Body(Item, default=Item("none"))


@post("/orders", status_code=200)
async def take(request: Request) -> str:
    return repr(await ORDER.read(request))


@post("/optional", status_code=200)
async def maybe(request: Request) -> str:
    return (await OPTIONAL.read(request)).name


APP = Litestar(
    [take, maybe], exception_handlers={Exception: response_of}, openapi_config=None, logging_config=None
)
JSON = {"Content-Type": "application/json"}


async def send(
    content: object, path: str = "/orders", headers: dict[str, str] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=APP), base_url="http://test") as client:
        return await client.post(path, content=content, headers=JSON if headers is None else headers)


@pytest.mark.parametrize(
    ("message", "pointer"),
    [
        ("Expected `str`, got `int` - at `$.items[0].name`", "/items/0/name"),
        ("Object missing required field `name` - at `$.items[2]`", "/items/2/name"),
        ("Object contains unknown field `a/b~c`", "/a~1b~0c"),
        ("Expected `object`, got `array`", ""),
        ("Expected `int`, got `str` - at `$[3]`", "/3"),
        ("Expected `int`, got `str` - at `$.counts[...]`", "/counts/..."),
    ],
)
def test_a_wrong_place_is_told_as_a_json_pointer(message: str, pointer: str) -> None:
    assert pointed(message).pointer == pointer


async def test_a_good_body_is_decoded() -> None:
    answer = await send(b'{"items":[{"name":"a"}]}')
    assert answer.status_code == 200
    assert answer.text == "Order(items=[Item(name='a', count=1)], note=None)"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"items":[{"name":1}]}', "/items/0/name"),
        (b'{"items":[{}]}', "/items/0/name"),
        (b'{"items":[{"name":"too long"}]}', "/items/0/name"),
        (b'{"items":[{"name":"a","colour":"red"}]}', "/items/0/colour"),
        (b'{"items":[{"name":"a","count":"1"}]}', "/items/0/count"),
        (b'{"items":[],"note":7}', "/note"),
        (b"[]", ""),
        (b"{}", "/items"),
    ],
)
async def test_an_invalid_body_says_where_it_is_wrong(body: bytes, pointer: str) -> None:
    answer = await send(body)
    problem = answer.json()
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "invalid_body"
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"{'items': []}", "malformed_json"),
        (b'{"items":[]} {}', "malformed_json"),
        (b'{"items":[{"name":"\xff\xfe"}]}', "invalid_utf8"),
        (b'{"items":[{"name":"\\ud800"}]}', "malformed_json"),
    ],
)
async def test_what_is_no_json_is_a_bad_request(body: bytes, code: str) -> None:
    answer = await send(body)
    assert answer.status_code == 400
    assert answer.json()["code"] == code


async def test_deep_nesting_is_a_bad_request() -> None:
    deep = Body(list[msgspec.Raw], bytes_max=1_000_000)

    @post("/deep")
    async def nested(request: Request) -> str:
        return str(len(await deep.read(request)))

    app = Litestar(
        [nested], exception_handlers={Exception: response_of}, openapi_config=None, logging_config=None
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        answer = await client.post("/deep", content=b"[" * 200_000 + b"]" * 200_000, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["code"] == "nested_too_deeply"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/json; charset=latin-1", "", "multipart/form-data"],
)
async def test_another_media_type_is_refused(content_type: str) -> None:
    answer = await send(b'{"items":[]}', headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


async def test_utf8_may_be_said_aloud() -> None:
    answer = await send(b'{"items":[]}', headers={"Content-Type": 'application/json; charset="UTF-8"'})
    assert answer.status_code == 200


async def test_a_body_that_says_it_is_too_large_is_refused() -> None:
    answer = await send(b" " * 1_001)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"
    assert answer.headers["connection"] == "close"


async def test_a_body_that_grows_too_large_without_saying_its_length_is_refused() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    answer = await send(pieces())
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


async def test_a_body_may_come_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"items":', b"[]", b"}"):
            yield piece

    assert (await send(pieces())).status_code == 200


async def test_an_optional_body_may_be_missing_but_not_wrong() -> None:
    assert (await send(b"", "/optional", {})).text == "none"
    assert (await send(b'{"name":"a"}', "/optional")).text == "a"
    assert (await send(b'{"name":1}', "/optional")).status_code == 400
