"""Dead letters: what could not be handled lies here, visible, until a person replays or drops it.

The stream keeps one message for each letter's subject: its newest state.
"""

from collections.abc import Mapping

import msgspec

from shared.contracts.dead import DeadLetter, DeadLetters, GetDead, ListDead
from shared.contracts.naming import DEAD, dead_subject
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound
from shared.runtime import metrics
from shared.runtime.clock import now
from shared.runtime.connection import Connection
from shared.runtime.directget import every, peek
from shared.runtime.publish import Publisher

_LETTER = msgspec.json.Decoder(DeadLetter)


class DeadLetterBox:
    """One service's dead letters."""

    def __init__(self, service: str, connection: Connection, publisher: Publisher) -> None:
        self._service = service
        self._connection = connection
        self._publisher = publisher

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
        """Lay a command down. Its id is that of the stored message, so that twice is once."""
        metrics.DEAD_LETTERS.labels(self._service, reason.partition(":")[0]).inc()
        await self._write(
            DeadLetter(
                id=letter_id,
                service=self._service,
                subject=subject,
                reason=reason,
                attempts=attempts,
                at=now(),
                headers=dict(headers),
                body=body.decode(errors="backslashreplace"),
            )
        )

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; NotFound when there is none of that id."""
        stored = await peek(self._connection, DEAD, dead_subject(self._service, letter_id))
        if stored is None:
            raise NotFound("dead_letter_not_found", f"{self._service} has no dead letter {letter_id}")
        return _LETTER.decode(stored.data)

    async def show(self, query: GetDead) -> DeadLetter:
        """One letter, to who asks for it."""
        return await self.get(query.id)

    async def list(self, query: ListDead) -> DeadLetters:
        """The letters in a state (None: `dead`), newest first."""
        wanted = query.state or "dead"
        subjects = dead_subject(self._service, "*")
        letters = [_LETTER.decode(each.data) for each in await every(self._connection, DEAD, subjects)]
        found = sorted(
            (each for each in letters if each.state == wanted), key=lambda each: each.at, reverse=True
        )
        return DeadLetters(items=found[: query.limit])

    async def mark(self, letter: DeadLetter, state: str, attempts: int | None = None) -> DeadLetter:
        """Write the letter's new state over the old one."""
        marked = msgspec.structs.replace(letter, state=state, attempts=attempts or letter.attempts)
        await self._write(marked)
        return marked

    async def _write(self, letter: DeadLetter) -> None:
        await self._publisher.publish(dead_subject(self._service, letter.id), encode(letter))
