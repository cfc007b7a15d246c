"""Rows that are each in order, put in one order as they come."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from shared.runtime.store import Stored


async def in_order(rows: Sequence[AsyncIterator[list[Stored]]]) -> AsyncGenerator[list[Stored], None]:
    """All commits of all rows by sequence; of each row no more than one batch is held."""
    held: dict[AsyncIterator[list[Stored]], list[Stored]] = {row: [] for row in rows}
    while True:
        for row in [row for row, batch in held.items() if not batch]:
            batch = await anext(row, None)
            if batch is None:
                del held[row]
            else:
                held[row] = batch
        if not held:
            return
        sure = min(batch[-1].sequence for batch in held.values())
        ready = [stored for batch in held.values() for stored in batch if stored.sequence <= sure]
        for row, batch in held.items():
            held[row] = [stored for stored in batch if stored.sequence > sure]
        yield sorted(ready, key=lambda stored: stored.sequence)
