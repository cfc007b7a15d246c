"""Which dead letters a question asks for."""

from datetime import timedelta

import msgspec

from shared.contracts.dead import ListDead
from shared.runtime.dead import LETTER_BYTES_MAX, page, place
from tests.support.api import letter
from tests.support.scenario import NOON

SECOND = timedelta(seconds=1)
OLD, TWIN, NEW = letter("a"), letter("b"), letter("c", at=NOON + SECOND)
DROPPED = msgspec.structs.replace(letter("d"), state="dropped")
ALL = [OLD, NEW, DROPPED, TWIN]


def test_they_come_newest_first_and_by_id_within_a_moment() -> None:
    told = page(ALL, ListDead())
    assert (told.items, told.total) == ([NEW, TWIN, OLD], 3)
    assert page(ALL, ListDead(state="dropped")).items == [DROPPED]


def test_what_follows_a_place_and_how_many_there_are_in_all() -> None:
    told = page(ALL, ListDead(before=place(NEW), limit=1))
    assert (told.items, told.total) == ([TWIN], 2)
    assert page(ALL, ListDead(before=place(OLD))).items == []


def test_those_about_one_aggregate() -> None:
    assert page([*ALL, letter("e", key="t2")], ListDead(key="t2")).items == [letter("e", key="t2")]


def test_an_answer_holds_what_fits_a_message_and_says_how_many_there_are() -> None:
    large = [
        msgspec.structs.replace(letter(name), body="x" * (LETTER_BYTES_MAX // 2)) for name in ("a", "b", "c")
    ]
    told = page(large, ListDead())
    assert (len(told.items), told.total) == (1, 3)
