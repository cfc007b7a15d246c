"""Commands that must arrive: said again, with the same id, until their queue has them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.contracts.naming import command_subject
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import PARCEL_MAX, Command, Envelope, Parcel
from shared.runtime.connection import Connection
from shared.runtime.ids import derived_id, jittered
from shared.runtime.publish import MSG_ID, Answer, decode_answer

STORED_WITHIN_S: Final = 2.0
AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 2.0

_log = logging.getLogger(__name__)


class Patience:
    """The growing pauses of one who asks again and again."""

    def __init__(self) -> None:
        self.pauses = 0

    async def pause(self) -> None:
        """Wait a little longer than before, up to AGAIN_MAX_S."""
        await asyncio.sleep(jittered(min(AGAIN_MAX_S, AGAIN_FIRST_S * 2 ** min(self.pauses, 10))))
        self.pauses += 1


class Letter(msgspec.Struct, frozen=True):
    """One command, or a parcel of them, addressed. The same id always means the same wish."""

    subject: str
    data: bytes
    id: str


def letter(command: Command, *, sender: str, command_id: str, chain: str) -> Letter:
    """Address a command to its owner."""
    envelope = Envelope(id=command_id, chain=chain, actor=sender, command=msgspec.Raw(encode(command)))
    return Letter(command_subject(command.service, sender, command.key), encode(envelope), command_id)


def parcel(letters: Sequence[Letter]) -> Letter:
    """Several letters to one service as one, to the address of the first; a single one stays as it is."""
    assert 0 < len(letters) <= PARCEL_MAX, len(letters)
    if len(letters) == 1:
        return letters[0]
    body = encode(Parcel(parcel=[msgspec.Raw(each.data) for each in letters]))
    return Letter(letters[0].subject, body, derived_id("parcel", *(each.id for each in letters)))


async def ask(
    connection: Connection, letter: Letter, *, message_id: str | None = None, **headers: str
) -> Answer:
    """Say it once; what its queue answers. Unavailable: perhaps it has it."""
    complete = {MSG_ID: message_id or letter.id, **headers}
    message = await connection.request(letter.subject, letter.data, timeout=STORED_WITHIN_S, headers=complete)
    return decode_answer(message.data)


async def store(
    connection: Connection, letter: Letter, *, message_id: str | None = None, **headers: str
) -> None:
    """Say it until its queue has it, however long the broker or the room in the queue is away."""
    patience = Patience()
    while True:
        try:
            answer = await ask(connection, letter, message_id=message_id, **headers)
        except Unavailable as error:
            _log.info("%s is not stored yet: %s", letter.subject, error)
        else:
            if answer.error is None:
                return
            _log.warning("%s was not stored: %s", letter.subject, answer.error.description)
        await patience.pause()
