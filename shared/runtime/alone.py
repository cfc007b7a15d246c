"""Many together, or one by itself: a suspect command must not take others down with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Alone:
    """A gate that many may be inside, or exactly one."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._by_itself = False

    @asynccontextmanager
    async def with_others(self) -> AsyncIterator[None]:
        """Inside with any number of others."""
        if self._by_itself:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._by_itself)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if self._by_itself:
                async with self._changed:
                    self._changed.notify_all()

    @asynccontextmanager
    async def by_itself(self) -> AsyncIterator[None]:
        """Inside with nobody: waits until all have left, and keeps others out."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._by_itself)
            self._by_itself = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._inside == 0)
            yield
        finally:
            async with self._changed:
                self._by_itself = False
                self._changed.notify_all()
