"""Marks beside commands that may kill their process, so that one of them cannot kill it for ever.

`place` is a command's number in its parcel; None for one that came by itself.
"""

from shared.contracts.naming import SUSPECTS_BUCKET
from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.directget import peek
from shared.runtime.publish import Publisher

WATCHED_FROM_DELIVERY = 10
MARKS_MAX = 3


class Suspects:
    """How often a command was begun and never ended. A mark is taken away by any end but a kill."""

    def __init__(self, service: str, connection: Connection, publisher: Publisher) -> None:
        self._service = service
        self._connection = connection
        self._publisher = publisher
        self._ended: set[str] = set()  # ended here, but its mark could not be taken away

    async def marks(self, sequence: int, place: int | None = None) -> int:
        """The marks left behind beside the command stored at this sequence."""
        subject = self._subject(sequence, place)
        if subject in self._ended:
            return 0
        stored = await peek(self._connection, f"KV_{SUSPECTS_BUCKET}", subject)
        return int(stored.data) if stored is not None and stored.data else 0

    async def begin(self, sequence: int, marks: int, place: int | None = None) -> None:
        """It is about to be worked on, once more. Unavailable: it cannot be marked now."""
        subject = self._subject(sequence, place)
        await self._mark(subject, marks + 1)
        self._ended.discard(subject)

    async def end(self, sequence: int, place: int | None = None) -> None:
        """It came to an end, whichever; that no mark can be written now does not make it a kill."""
        subject = self._subject(sequence, place)
        try:
            await self._mark(subject, 0)
        except Unavailable:
            self._ended.add(subject)

    async def _mark(self, subject: str, marks: int) -> None:
        try:
            await self._publisher.publish(subject, str(marks).encode())
        except BrokerRefused as refused:
            raise Unavailable(f"the marks take nothing now: {refused}") from refused

    def _subject(self, sequence: int, place: int | None) -> str:
        key = str(sequence) if place is None else f"{sequence}-{place}"
        return f"$KV.{SUSPECTS_BUCKET}.{self._service}.{key}"
