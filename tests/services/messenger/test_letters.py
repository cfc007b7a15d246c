"""Dead letters come before failures, whatever dies in between."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from services.messenger.board import Board
from services.messenger.commands import LoseDelivery
from services.messenger.decider import BROADCAST, MESSAGE
from services.messenger.decider.message_state import Failed, Pending
from services.messenger.facts import BROADCAST_CODEC, MESSAGE_CODEC
from services.messenger.letters import LettersFirst
from services.messenger.performing import Performer
from services.messenger.scene import Scene
from services.messenger.steps import Fetch, Recall
from shared.contracts.dead import DeadLetter
from shared.contracts.messenger.commands import (
    MessageRequest,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.words import MessageId, Party
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import Cause, Commit, Committed, Outcome, Refused
from shared.runtime.connection import Connection
from shared.runtime.handler import Handler
from shared.runtime.ids import new_id
from shared.runtime.intake import Decides, Intake, Route
from shared.runtime.memory import MemoryStore
from shared.runtime.straight import StraightClient
from tests.services.messenger.builders import BETA, send
from tests.services.messenger.world import CAUSE
from tests.support.scenario import NOON

M1 = MessageId("m1")
GIVE_UP = ReturnMessage(
    message_id=M1, bot_id=BETA, delivery=1, code="engine", reason="exit 1", retryable=False
)


class Shelf:
    """Dead letters in memory."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}

    async def put(
        self,
        letter_id: str,
        *,
        subject: str,
        headers: Mapping[str, str],
        body: bytes,
        reason: str,
        attempts: int,
    ) -> None:
        self.letters[letter_id] = DeadLetter(
            id=letter_id,
            service="messenger",
            subject=subject,
            reason=reason,
            attempts=attempts,
            at=NOON,
            headers=dict(headers),
            body=body.decode(),
        )

    async def get(self, letter_id: str) -> DeadLetter:
        if letter_id not in self.letters:
            raise NotFound("dead_letter_not_found", letter_id)
        return self.letters[letter_id]

    async def mark(self, letter: DeadLetter, state: str) -> DeadLetter:
        marked = self.letters[letter.id] = msgspec.structs.replace(letter, state=state)
        return marked


class FullLog(MemoryStore):
    """A log that takes nothing while it is full."""

    full = False

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        if self.full:
            raise Unavailable("the disk is full")
        return await super().append(aggregate, aggregate_id, commit, expected=expected)


class Office:
    def __init__(self) -> None:
        self.store = FullLog()
        self.shelf = Shelf()
        self.handler = Handler(
            MESSAGE,
            "message",
            MESSAGE_CODEC,
            self.store,
            now=lambda: NOON,
            new_id=new_id,
            service="messenger",
        )
        self.messages = LettersFirst(self.handler, self.store, self.shelf, lambda: NOON)

    @property
    def dead(self) -> list[DeadLetter]:
        return [letter for letter in self.shelf.letters.values() if letter.state == "dead"]


class ReadFirst:
    """Somebody reads the message after the letter was put and before the failure is decided."""

    aggregate = "message"

    def __init__(self, handler: Decides) -> None:
        self._handler = handler

    async def handle(
        self, command: Any, cause: Cause, *, command_id: str | None = None, once: bool = False
    ) -> Outcome:
        await self._handler.handle(ReadMessage(message_id=M1, bot_id=BETA, delivery=1), CAUSE)
        return await self._handler.handle(command, cause, command_id=command_id, once=once)

    def forget(self) -> None:
        self._handler.forget()


@pytest.fixture
async def office() -> Office:
    office = Office()
    assert isinstance(await office.messages.handle(send(), CAUSE), Committed)
    return office


async def test_a_message_that_fails_leaves_a_letter_with_its_words_and_the_reason(office: Office) -> None:
    assert isinstance(await office.messages.handle(GIVE_UP, CAUSE), Committed)
    (letter,) = office.dead
    assert letter.reason == "message_failed: engine: exit 1"
    request = Intake([Route(MessageRequest, office.messages)]).read(letter.subject, {}, letter.body.encode())
    assert (request.command.message_id, request.command.content) == ("m1", "hello")  # type: ignore[attr-defined] # it is ReplayMessage
    outcome = await office.messages.handle(request.command, request.cause, command_id=request.envelope.id)
    assert isinstance(outcome, Committed)
    state, _ = await office.handler.state("m1")
    assert isinstance(state, Pending)


def performer(office: Office, scene: Scene) -> Performer:
    broadcasts = Handler(
        BROADCAST,
        "broadcast",
        BROADCAST_CODEC,
        office.store,
        now=lambda: NOON,
        new_id=new_id,
        service="messenger",
    )
    nowhere = Connection(StraightClient(), "svc-messenger")
    return Performer(scene, office.messages, broadcasts, office.store, nowhere)


async def test_words_that_memory_had_no_room_for_are_read_from_the_log(office: Office) -> None:
    scene = Scene(board=Board(letter_chars_max=0))
    await performer(office, scene).perform(Recall(M1))
    entry = scene.board.messages[M1]
    assert entry.letter is None

    await performer(office, scene).perform(Fetch(M1))

    assert entry.letter is not None
    assert (entry.letter.sent.content, entry.letter.chain) == ("hello", CAUSE.correlation_id)


async def test_the_past_of_a_message_that_was_put_back_is_read_from_the_log(office: Office) -> None:
    await office.messages.handle(GIVE_UP, CAUSE)
    replay = ReplayMessage(message_id=M1, sender=Party("@ann"), recipient=Party(BETA), content="hello")
    await office.messages.handle(replay, CAUSE)
    scene = Scene()

    await performer(office, scene).perform(Recall(M1))

    assert scene.board.unread(BETA) == 1
    entry = scene.board.messages[M1]
    assert isinstance(entry.state, Pending)
    assert (entry.state.delivery, entry.version) == (2, await office.store.version("message", "m1"))


async def test_a_crash_between_letter_and_failure_leaves_one_letter_in_the_end(office: Office) -> None:
    office.store.full = True
    with pytest.raises(Unavailable):
        await office.messages.handle(GIVE_UP, CAUSE, command_id="c1", once=True)
    assert len(office.dead) == 1
    office.store.full = False
    assert isinstance(await office.messages.handle(GIVE_UP, CAUSE, command_id="c1"), Committed)
    assert len(office.dead) == 1


async def test_a_message_that_comes_again_leaves_no_letter(office: Office) -> None:
    again = ReturnMessage(message_id=M1, bot_id=BETA, delivery=1, code="engine", reason="exit 1")
    assert isinstance(await office.messages.handle(again, CAUSE), Committed)
    assert office.shelf.letters == {}


async def test_what_is_refused_leaves_no_letter(office: Office) -> None:
    unknown = ReturnMessage(message_id=MessageId("m9"), bot_id=BETA, delivery=1, code="x", reason="x")
    assert isinstance(await office.messages.handle(unknown, CAUSE), Refused)
    assert office.shelf.letters == {}


async def test_each_failure_of_a_message_has_a_letter_of_its_own(office: Office) -> None:
    await office.messages.handle(GIVE_UP, CAUSE)
    (letter,) = office.dead
    request = Intake([Route(MessageRequest, office.messages)]).read(letter.subject, {}, letter.body.encode())
    await office.messages.handle(request.command, request.cause)
    again = ReturnMessage(message_id=M1, bot_id=BETA, delivery=2, code="x", reason="x", retryable=False)
    await office.messages.handle(again, CAUSE)
    assert len(office.dead) == 2


async def test_a_message_that_killed_its_process_too_often_leaves_a_letter(office: Office) -> None:
    for delivery in (1, 2, 3):
        take = TakeMessage(message_id=M1, bot_id=BETA, delivery=delivery, kept=True)
        assert isinstance(await office.messages.handle(take, CAUSE), Committed)
        lose = LoseDelivery(message_id=M1, delivery=delivery, counts=True)
        assert isinstance(await office.messages.handle(lose, CAUSE), Committed)
    (letter,) = office.dead
    assert letter.reason.startswith("message_failed: process_ended")
    assert isinstance((await office.handler.state("m1"))[0], Failed)


async def test_the_letter_of_a_message_that_was_read_meanwhile_is_dropped(office: Office) -> None:
    messages = LettersFirst(ReadFirst(office.handler), office.store, office.shelf, lambda: NOON)
    await messages.handle(GIVE_UP, CAUSE)
    assert [letter.state for letter in office.shelf.letters.values()] == ["dropped"]
