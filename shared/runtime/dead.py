"""Dead letters: what could not be handled lies here, visible, until a person replays or drops it.

The stream keeps one message for each letter's subject: its newest state.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

import msgspec

from shared.contracts.dead import DeadLetter, DeadLetters, GetDead, ListDead
from shared.contracts.naming import DEAD, aggregate_id_of, dead_subject, is_token
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound, Unavailable
from shared.runtime import metrics
from shared.runtime.clock import now
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import every, peek
from shared.runtime.publish import Publisher

LETTER_BYTES_MAX: Final = BROKER_PAYLOAD_BYTES_MAX * 9 // 10
BODY_CHARS_KEPT: Final = 100_000  # of a body too long for a letter: up to six bytes each on the wire
REASON_CHARS_MAX: Final = 2_000
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
        letter = DeadLetter(
            id=letter_id,
            service=self._service,
            subject=subject,
            reason=reason[:REASON_CHARS_MAX],
            attempts=attempts,
            at=now(),
            headers=dict(headers),
            body=body.decode(errors="backslashreplace"),
        )
        await self._write(letter if len(encode(letter)) <= LETTER_BYTES_MAX else _cut(letter))
        metrics.DEAD_LETTERS.labels(self._service, reason.partition(":")[0]).inc()

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; NotFound when there is none of that id."""
        stored = await peek(self._connection, DEAD, dead_subject(self._service, "*", letter_id))
        if stored is None:
            raise NotFound("dead_letter_not_found", f"{self._service} has no dead letter {letter_id}")
        return _LETTER.decode(stored.data)

    async def show(self, query: GetDead) -> DeadLetter:
        """One letter, to who asks for it."""
        return await self.get(query.id)

    async def list(self, query: ListDead) -> DeadLetters:
        """The letters that are asked for, newest first."""
        if query.key is not None and not is_token(query.key):
            return DeadLetters(items=[], total=0)
        subjects = dead_subject(self._service, query.key or "*", "*")
        letters = [_LETTER.decode(each.data) for each in await every(self._connection, DEAD, subjects)]
        return page(letters, query)

    async def mark(self, letter: DeadLetter, state: str, attempts: int | None = None) -> DeadLetter:
        """Write the letter's new state over the old one."""
        marked = msgspec.structs.replace(letter, state=state, attempts=attempts or letter.attempts)
        await self._write(marked)
        return marked

    async def _write(self, letter: DeadLetter) -> None:
        try:
            await self._publisher.publish(self._subject(letter), encode(letter))
        except BrokerRefused as refused:
            raise Unavailable(f"the dead letters take nothing now: {refused}") from refused

    def _subject(self, letter: DeadLetter) -> str:
        return dead_subject(self._service, aggregate_id_of(letter.subject), letter.id)


def place(letter: DeadLetter) -> tuple[datetime, str]:
    """Where it stands among the others: by its moment, then by its id."""
    return letter.at, letter.id


def page(letters: Iterable[DeadLetter], query: ListDead) -> DeadLetters:
    """Of these letters those that are asked for, newest first, as many as one answer can carry."""
    wanted = query.state or "dead"
    found = [
        letter
        for letter in letters
        if letter.state == wanted
        and (query.before is None or place(letter) < query.before)
        and (query.key is None or aggregate_id_of(letter.subject) == query.key)
    ]
    found.sort(key=place, reverse=True)
    return DeadLetters(items=_that_fit(found[: query.limit]), total=len(found))


def _cut(letter: DeadLetter) -> DeadLetter:
    """What may grow in writing until no message can carry it; it could not be read before either."""
    reason = f"{letter.reason}; its {len(letter.body)} characters were cut"
    return msgspec.structs.replace(letter, reason=reason, headers={}, body=letter.body[:BODY_CHARS_KEPT])


def _that_fit(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """The newest that one answer can carry."""
    sizes = accumulate(len(encode(letter)) + 1 for letter in letters)
    return list(letters[: max(1, sum(size <= LETTER_BYTES_MAX for size in sizes))])
