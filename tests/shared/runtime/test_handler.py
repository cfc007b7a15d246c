"""How a command becomes facts once, whatever happens on the way."""

import asyncio

import pytest

from shared.kernel.errors import NotStored, Unavailable
from shared.kernel.messages import AlreadySo, Commit, Committed, Recorded, Refused
from shared.runtime.handler import CAUSES_MAX, REMEMBERED_MAX, Effects, Handler, Known
from shared.runtime.ids import new_id
from shared.runtime.memory import MemoryStore
from shared.runtime.store import Stored
from tests.support.notes import CAUSE, NOON, NOTE, NOTE_CODEC, Note, NoteFact, NoteRequest, RubOut, WriteNote


def handler(store: MemoryStore, effects: Effects | None = None) -> Handler[Note, NoteRequest, NoteFact]:
    return Handler(
        NOTE, "note", NOTE_CODEC, store, now=lambda: NOON, new_id=new_id, service="notes", effects=effects
    )


def write(text: str) -> WriteNote:
    return WriteNote(note_id="n", text=text)


class Silent(MemoryStore):
    """Stores the next commit, or not, and gives no answer."""

    def __init__(self, *, stores: bool) -> None:
        super().__init__()
        self._silent = 1
        self._stores = stores

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        if self._silent:
            self._silent -= 1
            if self._stores:
                await super().append(aggregate, aggregate_id, commit, expected=expected)
            raise Unavailable("no answer")
        return await super().append(aggregate, aggregate_id, commit, expected=expected)


async def test_a_command_becomes_one_commit_that_names_it() -> None:
    store = MemoryStore()

    outcome = await handler(store).handle(write("a"), CAUSE, command_id="c1")

    [stored] = await store.read("note", "n")
    assert Committed(command_id="c1", sequence=stored.sequence) == outcome
    assert (stored.commit.cause, stored.commit.chain, stored.commit.actor) == ("c1", "chain", "key:test")


async def test_a_command_delivered_again_is_answered_with_what_it_caused() -> None:
    store = MemoryStore()
    notes = handler(store)
    first = await notes.handle(write("a"), CAUSE, command_id="c1")
    await notes.handle(RubOut(note_id="n"), CAUSE, command_id="c2")

    assert first == await notes.handle(write("a"), CAUSE, command_id="c1")
    assert first == await handler(store).handle(write("a"), CAUSE, command_id="c1")
    assert len(await store.read("note", "n")) == 2


async def test_an_aggregate_that_lives_long_remembers_the_causes_of_its_last_commits_only() -> None:
    store = MemoryStore()
    notes = handler(store)
    for number in range(CAUSES_MAX + 10):
        last = await notes.handle(write(f"text {number}"), CAUSE, command_id=f"c{number}")

    for each in (notes, handler(store)):
        await each.state("n")
        assert len(each._known["n"].causes) == CAUSES_MAX
        assert last == await each.handle(write("other"), CAUSE, command_id=f"c{number}")
        # What is older than any redelivery is answered from the state.
        assert isinstance(await each.handle(write("text 0"), CAUSE, command_id="c0"), AlreadySo)


async def test_what_is_already_so_writes_nothing() -> None:
    store = MemoryStore()
    notes = handler(store)
    first = await notes.handle(write("a"), CAUSE, command_id="c1")

    assert isinstance(first, Committed)
    assert AlreadySo(command_id="c2", sequence=first.sequence) == await notes.handle(
        write("a"), CAUSE, command_id="c2"
    )


async def test_a_stale_already_so_is_checked_against_the_log() -> None:
    store = MemoryStore()
    stale, other = handler(store), handler(store)
    await stale.handle(write("a"), CAUSE, command_id="c1")
    await other.handle(RubOut(note_id="n"), CAUSE, command_id="c2")

    outcome = await stale.handle(write("a"), CAUSE, command_id="c3")

    assert isinstance(outcome, Refused)
    assert outcome.code == "note_gone"


async def test_a_stale_no_is_checked_against_the_log() -> None:
    store = MemoryStore()
    stale, other = handler(store), handler(store)
    assert isinstance(await stale.handle(RubOut(note_id="n"), CAUSE), Refused)
    await other.handle(write("a"), CAUSE)

    assert isinstance(await stale.handle(RubOut(note_id="n"), CAUSE), Committed)


async def test_who_lost_the_race_decides_again() -> None:
    store = MemoryStore()
    stale, other = handler(store), handler(store)
    await stale.handle(write("a"), CAUSE)
    await other.handle(write("b"), CAUSE)

    await stale.handle(write("c"), CAUSE)

    assert (await stale.state("n"))[0].texts == ("a", "b", "c")


@pytest.mark.parametrize("stores", [True, False])
async def test_an_append_without_an_answer_is_read_back(*, stores: bool) -> None:
    store = Silent(stores=stores)

    outcome = await handler(store).handle(write("a"), CAUSE, command_id="c1")

    [stored] = await store.read("note", "n")
    assert Committed(command_id="c1", sequence=stored.sequence) == outcome


async def test_an_append_that_came_to_nothing_is_left_alone_where_others_must_not_overtake_it() -> None:
    store = Silent(stores=False)
    notes = handler(store)
    with pytest.raises(Unavailable):
        await notes.handle(write("a"), CAUSE, command_id="c1", once=True)

    assert await store.read("note", "n") == []
    assert isinstance(await notes.handle(write("a"), CAUSE, command_id="c1", once=True), Committed)


async def test_commands_for_one_aggregate_wait_for_each_other() -> None:
    store = MemoryStore()
    notes = handler(store)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(notes.handle(write(str(number)), CAUSE))

    assert tuple(map(str, range(50))) == (await notes.state("n"))[0].texts


async def test_one_that_stops_waiting_lets_the_next_go_on() -> None:
    notes = handler(MemoryStore())
    async with asyncio.TaskGroup() as group:
        group.create_task(notes.handle(write("a"), CAUSE))
        gone = group.create_task(notes.handle(write("b"), CAUSE))
        last = group.create_task(notes.handle(write("c"), CAUSE))
        await asyncio.wait([last], timeout=0)
        gone.cancel()

    assert isinstance(last.result(), Committed)


async def test_the_service_hears_of_its_commits_before_the_outcome_and_of_what_came_to_nothing() -> None:
    heard: list[Recorded[NoteFact]] = []
    released: list[NoteRequest] = []
    effects: Effects[NoteRequest, NoteFact] = Effects(
        prepare=lambda _, command: command, released=released.append, committed=heard.append
    )
    notes = handler(MemoryStore(), effects)

    outcome = await notes.handle(write("a"), CAUSE)
    again = await notes.handle(write("a"), CAUSE)

    assert isinstance(outcome, Committed)
    assert [outcome.sequence] == [commit.sequence for commit in heard]
    assert isinstance(again, AlreadySo)
    assert [write("a")] == released


async def test_time_never_runs_backwards_in_an_aggregate() -> None:
    store = MemoryStore()
    await handler(store).handle(write("a"), CAUSE)
    earlier = Handler(
        NOTE, "note", NOTE_CODEC, store, now=lambda: NOON.replace(hour=9), new_id=new_id, service="notes"
    )

    await earlier.handle(RubOut(note_id="n"), CAUSE)

    assert [stored.commit.at for stored in await store.read("note", "n")] == [NOON, NOON]


class Full(MemoryStore):
    """Takes nothing, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        self.tried += 1
        raise NotStored("the log takes nothing now")


async def test_a_full_log_is_asked_once_and_what_was_kept_for_the_command_is_free_again() -> None:
    store = Full()
    released: list[NoteRequest] = []

    with pytest.raises(Unavailable):
        await handler(store, Effects(released=released.append)).handle(write("a"), CAUSE)

    assert store.tried == 1
    assert released == [write("a")]


async def test_many_aggregates_one_after_another_are_not_all_remembered() -> None:
    store = MemoryStore()
    notes = handler(store)
    for number in range(REMEMBERED_MAX + 1_000):
        await notes.handle(WriteNote(note_id=f"n{number}", text="a"), CAUSE)

    assert len(notes._known) == REMEMBERED_MAX
    assert not notes._turns
    assert isinstance(await notes.handle(RubOut(note_id="n0"), CAUSE), Committed)


async def test_of_what_a_view_knows_only_the_rest_is_read_from_the_log() -> None:
    store = MemoryStore()
    notes = handler(store)
    for text in ("a", "b", "c"):
        outcome = await notes.handle(write(text), CAUSE, command_id=f"c-{text}")
    assert isinstance(outcome, Committed)
    reads: list[int] = []

    class Counted(MemoryStore):
        async def read(self, aggregate: str, aggregate_id: str, after: int = 0) -> list[Stored]:
            reads.append(after)
            return await store.read(aggregate, aggregate_id, after)

    state, _ = await notes.state("n")
    begun = Known(state=Note(("a", "b")), version=2, at=NOON, causes={"c-b": 2})
    again = handler(Counted(), Effects(recall=lambda key: begun if key == "n" else None))

    assert (state, 3) == await again.state("n")
    assert {"c-b": 2, "c-c": 3} == again._known["n"].causes
    assert (NOTE.initial, 0) == await again.state("another")
    assert [2, 0] == reads
