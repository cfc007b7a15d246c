"""Marks beside commands that may kill their process, so that one of them cannot kill it for ever."""

from shared.contracts.naming import SUSPECTS_BUCKET
from shared.runtime.connection import Connection
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

    async def marks(self, sequence: int) -> int:
        """The marks left behind beside the command stored at this sequence."""
        stored = await peek(self._connection, f"KV_{SUSPECTS_BUCKET}", self._subject(sequence))
        return int(stored.data) if stored is not None and stored.data else 0

    async def begin(self, sequence: int, marks: int) -> None:
        """It is about to be worked on, once more."""
        await self._publisher.publish(self._subject(sequence), str(marks + 1).encode())

    async def end(self, sequence: int) -> None:
        """It came to an end, whichever."""
        await self._publisher.publish(self._subject(sequence), b"0")

    def _subject(self, sequence: int) -> str:
        return f"$KV.{SUSPECTS_BUCKET}.{self._service}.{sequence}"
