"""When two wishes are the same."""

from datetime import datetime

import msgspec
import pytest

from shared.kernel.wishes import wish_hash


class Again(msgspec.Struct, frozen=True):
    """A part of a wish."""

    times: int = 3
    after_s: float = 1.5


class Wish(msgspec.Struct, frozen=True):
    """What is wished for."""

    what: str
    by: datetime | None = None
    within_s: float = 3600.0
    again: Again = Again()
    words: tuple[str, ...] = ()
    sender: str | None = msgspec.field(name="from", default=None)


class WishOfTomorrow(msgspec.Struct, frozen=True):
    """The same when a version later it has a field more."""

    what: str
    by: datetime | None = None
    more: bool = False
    within_s: float = 3600.0
    again: Again = Again()
    words: tuple[str, ...] = ()
    sender: str | None = msgspec.field(name="from", default=None)


def asked(text: str, form: type[msgspec.Struct] = Wish) -> str:
    return wish_hash(msgspec.json.decode(text, type=form))


PLAIN = '{"what": "x"}'
BY = '{"what": "x", "by": "2026-03-01T10:00:00%s", "again": {"times": 5}}'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN, '{"within_s": 3600, "what": "x"}'),
        (PLAIN, '{"what": "x", "again": {}, "words": [], "from": null}'),
        (PLAIN, '{"what": "x", "again": {"times": 3, "after_s": 1.50}}'),
        (BY % "Z", BY % "+00:00"),
        (BY % "Z", (BY % "+01:00").replace("T10", "T11")),
    ],
)
def test_the_same_wish_has_one_hash_however_it_was_written_down(one: str, other: str) -> None:
    assert asked(one) == asked(other)


@pytest.mark.parametrize(
    "other",
    [
        '{"what": "y"}',
        '{"what": "x", "within_s": 3601}',
        '{"what": "x", "again": {"times": 4}}',
        '{"what": "x", "from": "x"}',
        '{"what": "x", "words": ["from"]}',
        BY % "Z",
    ],
)
def test_another_wish_has_another(other: str) -> None:
    assert asked(PLAIN) != asked(other)


def test_a_field_that_is_added_later_changes_no_hash() -> None:
    for text in (PLAIN, BY % "Z", '{"what": "x", "words": ["a"], "from": "b"}'):
        assert asked(text) == asked(text, WishOfTomorrow)


def test_there_is_no_moment_too_early_or_too_late_for_it() -> None:
    first, last = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"

    assert len({asked(f'{{"what": "x", "by": "{moment}"}}') for moment in (first, last)}) == 2
