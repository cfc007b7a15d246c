"""What an attempt writes: kept for its report up to a limit, and shown live as it appears."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from shared.contracts.orchestrator.facts import Output
from shared.contracts.orchestrator.protocol import Assignment, Chunk
from shared.contracts.words import INLINE_BYTES_MAX, OUTPUT_BYTES_MAX

SHOW_EVERY_S: Final = 0.02  # what is written meanwhile goes out as one chunk
CHUNK_CHARS_MAX: Final = 65_536


class Written:
    """The `Emit` of one attempt. `show` hears each piece, too."""

    def __init__(self, show: Callable[[str, str], None]) -> None:
        self.share: float | None = None
        self._show = show
        self._pieces: list[str] = []
        self._size_bytes = 0
        self._truncated = False

    def write(self, text: str, channel: str = "out") -> None:
        """Keep and show it; what goes beyond OUTPUT_BYTES_MAX is neither."""
        if self._truncated or not text:
            return
        text, size_bytes, self._truncated = cut(text, OUTPUT_BYTES_MAX - self._size_bytes)
        self._pieces.append(text)
        self._size_bytes += size_bytes
        self._show(text, channel)

    def progress(self, share: float) -> None:
        """Told to the orchestrator by the next heartbeat."""
        self.share = min(1.0, max(0.0, share))

    def output(self, *, exit_code: int | None = None) -> Output:
        """Everything kept."""
        return Output(
            text="".join(self._pieces),
            size_bytes=self._size_bytes,
            truncated=self._truncated,
            exit_code=exit_code,
        )


def cut(text: str, bytes_max: int) -> tuple[str, int, bool]:
    """As much of the text as fits, its size, and whether something was cut; no character is halved."""
    data = text.encode()
    if len(data) <= bytes_max:
        return text, len(data), False
    kept = data[:bytes_max].decode(errors="ignore")
    return kept, len(kept.encode()), True


def limited(output: Output) -> Output:
    """An engine's output, whatever it said, within OUTPUT_BYTES_MAX."""
    text, size_bytes, truncated = cut(output.text, OUTPUT_BYTES_MAX)
    return msgspec.structs.replace(
        output, text=text, size_bytes=size_bytes, truncated=truncated or output.truncated
    )


def beginning(output: Output) -> Output:
    """The same with as much of the text as a report may hold."""
    return msgspec.structs.replace(output, text=cut(output.text, INLINE_BYTES_MAX)[0])


class Live:
    """Publishes one attempt's output in chunks, without waiting for anybody.

    What ends before its first chunk is due need not be shown live if its report tells all of it as soon.
    """

    def __init__(self, task: Assignment, publish: Callable[[Chunk], Awaitable[None]]) -> None:
        self._task = task
        self._publish = publish
        self._pending: list[tuple[str, str]] = []
        self._written = asyncio.Event()
        self._index = 0

    def show(self, text: str, channel: str) -> None:
        """Have it published soon."""
        self._pending.append((channel, text))
        self._written.set()

    async def run(self) -> None:
        """Publish what is written, until cancelled."""
        while True:
            await self._written.wait()
            await asyncio.sleep(SHOW_EVERY_S)
            await self._flush()

    async def finish(self, *, told_by_report: bool) -> None:
        """Publish what is left, unless nothing was shown yet and the report tells it."""
        if self._index or not told_by_report:
            await self._flush()

    async def _flush(self) -> None:
        self._written.clear()
        pending, self._pending = self._pending, []
        for channel, text in _joined(pending):
            for start in range(0, len(text), CHUNK_CHARS_MAX):
                piece = text[start : start + CHUNK_CHARS_MAX]
                await self._publish(
                    Chunk(
                        task_id=self._task.task_id,
                        token=self._task.token,
                        index=self._index,
                        text=piece,
                        channel=channel,
                    )
                )
                self._index += 1


def _joined(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one channel as one."""
    joined: list[tuple[str, list[str]]] = []
    for channel, text in pieces:
        if not joined or joined[-1][0] != channel:
            joined.append((channel, []))
        joined[-1][1].append(text)
    return [(channel, "".join(texts)) for channel, texts in joined]
