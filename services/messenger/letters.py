"""Failed messages lie in the dead letters: the letter is put first, then the failure is decided.

So a failure without a letter cannot be, whatever dies in between. A letter whose message did not fail after
all is dropped; one that a crash left is refused when it is replayed.
"""

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from services.messenger.board import OURSELVES
from services.messenger.commands import LoseDelivery
from services.messenger.decider import MESSAGE
from services.messenger.decider.message_state import Failed, Message
from services.messenger.facts import MESSAGE_CODEC
from shared.contracts.dead import DeadLetter
from shared.contracts.messenger.commands import ReplayMessage, ReturnMessage
from shared.contracts.messenger.facts import MessageFailed, MessageSent
from shared.contracts.naming import stored_command
from shared.contracts.words import MessageId
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Cause, Envelope, Outcome
from shared.runtime.ids import derived_id
from shared.runtime.intake import Decides
from shared.runtime.store import EventStore


class Box(Protocol):
    """Where dead letters lie. Everything may raise Unavailable."""

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
        """Lay one down; of the same id, twice is once."""
        ...

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter."""
        ...

    async def mark(self, letter: DeadLetter, state: str) -> DeadLetter:
        """Give it another state."""
        ...


class LettersFirst:
    """The handler of messages, with a letter put before each decision that a message has failed."""

    def __init__(self, handler: Decides, store: EventStore, dead: Box, now: Callable[[], datetime]) -> None:
        self.aggregate = handler.aggregate
        self._handler = handler
        self._store = store
        self._dead = dead
        self._now = now

    def handle(
        self, command: Any, cause: Cause, *, command_id: str | None = None, once: bool = False
    ) -> Coroutine[Any, Any, Outcome]:
        """Decide one command."""
        if isinstance(command, ReturnMessage | LoseDelivery):
            return self._handle(command, cause, command_id, once=once)
        return self._handler.handle(command, cause, command_id=command_id, once=once)

    async def _handle(
        self, command: ReturnMessage | LoseDelivery, cause: Cause, command_id: str | None, *, once: bool
    ) -> Outcome:
        letter_id = await self._put(command)
        outcome = await self._handler.handle(command, cause, command_id=command_id, once=once)
        if letter_id is not None and not isinstance((await self._past(command.message_id))[0], Failed):
            await self._dead.mark(await self._dead.get(letter_id), "dropped")
        return outcome

    def forget(self) -> None:
        """Drop what memory holds."""
        self._handler.forget()

    async def _put(self, command: ReturnMessage | LoseDelivery) -> str | None:
        """Lay the message down, if this makes it fail: the letter's id."""
        message, sent, chain = await self._past(command.message_id)
        try:
            facts = MESSAGE.decide(message, command, self._now())
        except Rejected:
            return None
        failed = next((fact for fact in facts if isinstance(fact, MessageFailed)), None)
        if failed is None or sent is None:
            return None
        letter_id = derived_id("failed", sent.message_id, str(command.delivery))
        replay = ReplayMessage(
            message_id=sent.message_id, sender=sent.sender, recipient=sent.recipient, content=sent.content
        )
        envelope = Envelope(
            id=derived_id("replay", letter_id),
            chain=chain,
            actor=OURSELVES,
            command=msgspec.Raw(encode(replay)),
        )
        await self._dead.put(
            letter_id,
            subject=stored_command(replay.service, OURSELVES, sent.message_id),
            headers={},
            body=encode(envelope),
            reason=f"message_failed: {failed.code}: {failed.reason}",
            attempts=command.delivery,
        )
        return letter_id

    async def _past(self, message_id: MessageId) -> tuple[Message, MessageSent | None, str]:
        """A message as the log has it, its words, and its chain."""
        message: Message = MESSAGE.initial
        sent: MessageSent | None = None
        chain = ""
        for stored in await self._store.read("message", message_id):
            facts = MESSAGE_CODEC.decode_all(stored.commit.facts)
            message = MESSAGE.fold(message, facts, stored.sequence, stored.commit.at)
            if isinstance(facts[0], MessageSent):
                sent, chain = facts[0], stored.commit.chain
        return message, sent, chain
