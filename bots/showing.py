"""What an engine writes in one attempt: kept, and shown live from the moment that there is something."""

import asyncio
from collections.abc import Awaitable, Callable

from bots.output import Live, Written
from shared.contracts.orchestrator.protocol import Assignment, Chunk

Publish = Callable[[Chunk], Awaitable[None]]


class Showing:
    """`written` is what the engine writes to. Only what writes costs a task of the group."""

    def __init__(self, task: Assignment, publish: Publish, group: asyncio.TaskGroup) -> None:
        self.written = Written(self._show)
        self._live = Live(task, publish)
        self._group = group
        self._running: asyncio.Task[None] | None = None

    async def stop(self, *, told: str | None) -> None:
        """Show what is left; `told` is the text that others are told anyway, None: they are told nothing."""
        if self._running is not None:
            self._running.cancel()
            await self._live.finish(told_by_report=told is not None and told == self.written.output().text)

    def _show(self, text: str, channel: str) -> None:
        self._live.show(text, channel)
        if self._running is None:
            self._running = self._group.create_task(self._live.run())
