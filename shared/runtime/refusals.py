"""What was refused goes on record: each refusal of a rule, and strangers' refusals counted by the minute."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from shared.kernel.codec import encode
from shared.kernel.messages import Commit, Fact, Refused
from shared.runtime.clock import monotonic
from shared.runtime.ids import new_id
from shared.runtime.intake import Request
from shared.runtime.store import EventStore

MINUTE_S = 60.0
SOURCES_MAX = 1_000
DETAIL_CHARS_MAX = 2_000


class CommandRefused(Fact, frozen=True, kw_only=True):
    """A rule said no to a command."""

    command: str
    target: str
    code: str
    detail: str


class StrangersRefused(Fact, frozen=True, kw_only=True):
    """Somebody asked what he may not, so many times since the last record."""

    source: str
    count: int
    detail: str


class Refusals:
    """Writes refusals of one service to `evt.audit.<service>`."""

    def __init__(self, service: str, store: EventStore, now: Callable[[], datetime]) -> None:
        self._service = service
        self._store = store
        self._now = now
        self._counts: dict[str, int] = {}
        self._details: dict[str, str] = {}
        self._written_at: dict[str, float] = {}

    async def record(self, request: Request, refused: Refused) -> None:
        """One refusal by a rule, before its outcome goes out."""
        fact = CommandRefused(
            command=type(request.command).__name__,
            target=f"{request.handler.aggregate}:{request.command.key}",
            code=refused.code,
            detail=refused.detail,
        )
        await self._write(fact, request.cause.actor, request.envelope.id, request.envelope.chain)

    async def count(self, source: str, detail: str) -> None:
        """One stranger's refusal: at once the first time, then counted and written once a minute."""
        if source not in self._counts and len(self._counts) >= SOURCES_MAX:
            source = "others"
        self._counts[source] = self._counts.get(source, 0) + 1
        self._details[source] = detail[:DETAIL_CHARS_MAX]
        if monotonic() - self._written_at.get(source, float("-inf")) >= MINUTE_S:
            try:
                await self._flush(source)
            except BaseException:
                self._counts[source] -= 1  # who asks us to count it does so again
                raise

    async def flush(self) -> None:
        """Write what was counted and is a minute old."""
        for source in [each for each, count in self._counts.items() if count]:
            if monotonic() - self._written_at.get(source, float("-inf")) >= MINUTE_S:
                await self._flush(source)

    async def _flush(self, source: str) -> None:
        count, self._counts[source] = self._counts[source], 0
        before, self._written_at[source] = self._written_at.get(source, float("-inf")), monotonic()
        fact = StrangersRefused(source=source, count=count, detail=self._details[source])
        record_id = new_id()
        try:
            await self._write(fact, source, record_id, record_id)
        except BaseException:
            self._counts[source] += count
            self._written_at[source] = before
            raise

    async def _write(self, fact: Fact, actor: str, cause: str, chain: str) -> None:
        commit = Commit(
            id=new_id(),
            at=self._now(),
            actor=actor,
            cause=cause,
            chain=chain,
            facts=[msgspec.Raw(encode(fact))],
        )
        await self._store.record(self._service, commit)
