"""Strangers' refusals are counted, and every one of them comes on record."""

import pytest

from shared.kernel.codec import Codec
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Commit
from shared.runtime.memory import MemoryStore
from shared.runtime.refusals import DETAIL_CHARS_MAX, Refusals, StrangersRefused
from tests.support.notes import NOON

RECORDS: Codec[StrangersRefused] = Codec(StrangersRefused)


class Away(MemoryStore):
    """A log that is away until it is back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = True

    async def record(self, service: str, commit: Commit) -> int:
        if self.away:
            raise Unavailable("the log is away")
        return await super().record(service, commit)


async def recorded(store: MemoryStore) -> list[StrangersRefused]:
    return [
        fact
        for stored in await store.read("audit", "notes")
        for fact in RECORDS.decode_all(stored.commit.facts)
    ]


async def test_a_refusal_that_could_not_be_recorded_is_counted_once_when_it_comes_again() -> None:
    store = Away()
    refusals = Refusals("notes", store, lambda: NOON)
    with pytest.raises(Unavailable):
        await refusals.count("bot-eve", "may not")

    store.away = False
    await refusals.count("bot-eve", "may not")

    assert [each.count for each in await recorded(store)] == [1]


async def test_what_was_counted_while_the_log_was_away_is_recorded_later() -> None:
    store = Away()
    refusals = Refusals("notes", store, lambda: NOON)
    refusals._counts["bot-eve"] = 7
    refusals._details["bot-eve"] = "may not"
    with pytest.raises(Unavailable):
        await refusals.flush()

    store.away = False
    await refusals.flush()

    assert [each.count for each in await recorded(store)] == [7]


async def test_a_strangers_words_are_cut() -> None:
    store = MemoryStore()
    await Refusals("notes", store, lambda: NOON).count("bot-eve", "a" * 1_000_000)

    assert [len(each.detail) for each in await recorded(store)] == [DETAIL_CHARS_MAX]
