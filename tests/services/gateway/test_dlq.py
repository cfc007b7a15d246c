"""Dead letters over HTTP."""

from datetime import timedelta

import pytest

from services.gateway.dlq import merged
from shared.contracts.dead import DeadLetters
from tests.support.api import ApiHive, letter
from tests.support.scenario import NOON

SECOND = timedelta(seconds=1)


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    made.letters = [letter("d1"), letter("d2", at=NOON + SECOND), letter("d3", at=NOON + 2 * SECOND)]
    return made


async def test_dead_letters_are_listed_newest_first(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.get("/v1/dlq?limit=2")
    assert [each["id"] for each in answer.json()["items"]] == ["d3", "d2"]
    assert answer.json()["unavailable"] == []


@pytest.mark.parametrize("limit", [1, 2, 7, 200])
async def test_the_letters_of_all_services_come_page_by_page_each_once(hive: ApiHive, limit: int) -> None:
    hive.letters = [
        letter(
            f"d{number:03}",
            service=("orchestrator", "gateway")[number % 3 == 0],
            at=NOON + number // 4 * SECOND,
        )
        for number in range(15)
    ]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    async with hive.client() as client:
        while True:
            page = (await client.get("/v1/dlq", params={"limit": limit, **cursor})).json()
            assert len(page["items"]) <= limit
            seen += [each["id"] for each in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    assert seen == [f"d{number:03}" for number in reversed(range(15))]


def test_nothing_is_told_before_what_another_service_could_not_fit() -> None:
    new, old = letter("new", at=NOON + SECOND), letter("old")
    between = letter("between", at=NOON + SECOND / 2)

    cut = DeadLetters(items=[new], total=2)

    assert merged([cut, DeadLetters(items=[between, old], total=2)], 10) == ([new], True)
    assert merged([cut, DeadLetters(items=[], total=0)], 10) == ([new], True)
    assert merged([DeadLetters(items=[new], total=1), DeadLetters(items=[old], total=1)], 10) == (
        [new, old],
        False,
    )


async def test_a_cursor_that_is_none_of_ours_is_refused(hive: ApiHive) -> None:
    async with hive.client() as client:
        for cursor in ("", "x", "1", ".d1", "1.", "1.a/b", "9" * 17 + ".d1", "1.d1%0a"):
            assert (await client.get(f"/v1/dlq?cursor={cursor}")).status_code == 400, cursor


async def test_one_is_shown_whole(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.get("/v1/dlq/d2")
    assert answer.status_code == 200
    assert (answer.json()["reason"], answer.json()["attempts"]) == ("boom", 5)


async def test_a_replayed_letter_tells_what_was_decided(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/dlq/d2/replay")
        assert answer.json() == {"outcome": "committed", "command_id": "c", "sequence": 7}
        replayed = await client.get("/v1/dlq?state=replayed")
    assert "d2" in [each["id"] for each in replayed.json()["items"]]


async def test_a_dropped_letter_is_kept_as_dropped(hive: ApiHive) -> None:
    async with hive.client() as client:
        answer = await client.post("/v1/dlq/d2/drop")
    assert (answer.status_code, answer.json()["state"]) == (200, "dropped")


@pytest.mark.parametrize("letter_id", ["nothing", "a.b", "*"])
async def test_a_letter_that_is_not_there_is_not_found(hive: ApiHive, letter_id: str) -> None:
    async with hive.client() as client:
        for method, path in [("GET", ""), ("POST", "/replay"), ("POST", "/drop")]:
            answer = await client.request(method, f"/v1/dlq/{letter_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "dead_letter_not_found")


async def test_an_unknown_state_is_refused(hive: ApiHive) -> None:
    async with hive.client() as client:
        assert (await client.get("/v1/dlq?state=undead")).status_code == 400


async def test_when_nobody_answers_that_is_told(hive: ApiHive) -> None:
    hive.broker_away = True
    async with hive.client() as client:
        listed = await client.get("/v1/dlq")
        shown = await client.get("/v1/dlq/d1")
    unavailable = list(hive.doors.services)
    assert listed.json() == {"items": [], "unavailable": unavailable, "next_cursor": None}
    assert shown.status_code == 503
