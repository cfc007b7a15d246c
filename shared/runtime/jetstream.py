"""The log on JetStream: one stream, one literal subject for each aggregate, guarded by its last sequence."""

import contextlib
from collections.abc import AsyncGenerator, Collection
from typing import Final

import msgspec

from shared.contracts.naming import EVENTS, audit_subject, event_subject, parse_event
from shared.kernel.codec import encode
from shared.kernel.errors import NotStored, Unavailable, Undecodable, VersionConflict
from shared.kernel.messages import Commit
from shared.runtime import directget
from shared.runtime.connection import BrokerRefused, Connection
from shared.runtime.follow import arrivals
from shared.runtime.merging import in_order
from shared.runtime.publish import MESSAGE_TOO_LARGE, Publisher
from shared.runtime.store import Stored
from shared.runtime.waves import Waves

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
CONFLICTS: Final = frozenset({10071, 10164})  # 10164: someone else's is being written just now
APPEND_WITHIN_S: Final = 5.0

_commits = msgspec.json.Decoder(Commit)


class _StreamState(msgspec.Struct):
    last_seq: int


class _StreamInfo(msgspec.Struct):
    created: str
    state: _StreamState


class JetStreamStore:
    """The EventStore of a running hive. With replicas, versions are asked of the stream's leader."""

    def __init__(self, connection: Connection, publisher: Publisher, *, replicas: int = 1) -> None:
        self._connection = connection
        self._publisher = publisher
        self._waves = Waves(publisher)
        self._replicas = replicas

    async def read(self, aggregate: str, aggregate_id: str, after: int = 0) -> list[Stored]:
        """All commits of one aggregate, or those after a sequence, oldest first."""
        subject = event_subject(aggregate, aggregate_id)
        found = await directget.every(self._connection, EVENTS, subject, after)
        if self._replicas > 1 and await self.version(aggregate, aggregate_id) > max(after, _last_of(found)):
            raise Unavailable(f"a replica is behind about {aggregate} {aggregate_id}")
        return [_stored(message.subject, message.sequence, message.data) for message in found]

    async def version(self, aggregate: str, aggregate_id: str) -> int:
        """The sequence of the aggregate's last commit, or with `*` of its kind's; 0 if it has none."""
        subject = event_subject(aggregate, aggregate_id)
        if self._replicas > 1:
            return await directget.leader_sequence(self._connection, EVENTS, subject)
        last = await directget.last_on(self._connection, EVENTS, subject)
        return 0 if last is None else last.sequence

    async def append(self, aggregate: str, aggregate_id: str, commit: Commit, *, expected: int) -> int:
        """Store the commit if the aggregate's version is `expected`."""
        headers = {EXPECTED: str(expected)}
        subject = event_subject(aggregate, aggregate_id)
        try:
            return await self._waves.publish(subject, encode(commit), headers, deadline_s=APPEND_WITHIN_S)
        except BrokerRefused as refused:
            if refused.code in CONFLICTS:
                raise VersionConflict(f"{subject} is not at {expected}") from refused
            raise _answer_to(refused) from refused

    async def record(self, service: str, commit: Commit) -> int:
        """Store a record of a service, unguarded; repeated publishes of it are stored once."""
        try:
            ack = await self._publisher.publish(audit_subject(service), encode(commit), msg_id=commit.id)
        except BrokerRefused as refused:
            raise _answer_to(refused) from refused
        return ack.seq

    async def follow(self, aggregates: Collection[str], after: int) -> AsyncGenerator[list[Stored], None]:
        """The commits of these aggregates after a sequence, in order, without a gap, for ever."""
        filters = [event_subject(aggregate, "*") for aggregate in aggregates]
        if len(filters) > 1:
            async with contextlib.aclosing(self._past(aggregates, after)) as past:
                async for heard in past:
                    after = heard[-1].sequence
                    yield heard
        async with contextlib.aclosing(arrivals(self._connection, EVENTS, filters, after)) as batches:
            async for batch in batches:
                yield [_stored(message.subject, message.sequence, message.data) for message in batch]

    async def _past(self, aggregates: Collection[str], after: int) -> AsyncGenerator[list[Stored], None]:
        """What these aggregates have in the log by now, each followed by itself, put in order.

        With several filters the broker looks through all subjects of a block for each message (measured: 25
        times slower than with one).
        """
        try:
            upto = await self.last_sequence()
            # Asked for after that: what a kind has up to there, it has up to its own end.
            ends = {aggregate: await self.version(aggregate, "*") for aggregate in aggregates}
        except Unavailable:
            return  # slower, then
        async with contextlib.AsyncExitStack() as stack:
            rows = [
                await stack.enter_async_context(contextlib.aclosing(self._until(aggregate, after, end)))
                for aggregate, end in ends.items()
                if end > after
            ]
            async for row in in_order(rows):
                if heard := [stored for stored in row if stored.sequence <= upto]:
                    yield heard

    async def _until(self, aggregate: str, after: int, end: int) -> AsyncGenerator[list[Stored], None]:
        filters = [event_subject(aggregate, "*")]
        async with contextlib.aclosing(arrivals(self._connection, EVENTS, filters, after)) as batches:
            async for batch in batches:
                yield [_stored(message.subject, message.sequence, message.data) for message in batch]
                if batch[-1].sequence >= end:
                    return

    async def last_sequence(self) -> int:
        """The last sequence of the whole log."""
        return (await self._info()).state.last_seq

    async def identity(self) -> str:
        """The stream's name and when it was created."""
        return f"{EVENTS} {(await self._info()).created}"

    async def _info(self) -> _StreamInfo:
        try:
            return msgspec.json.decode(await self._connection.api(f"STREAM.INFO.{EVENTS}"), type=_StreamInfo)
        except BrokerRefused as refused:
            raise Unavailable(f"{EVENTS}: {refused}") from refused


def _answer_to(refused: BrokerRefused) -> Exception:
    """A commit that is too large will never fit; all else the log may take later."""
    if refused.code == MESSAGE_TOO_LARGE:
        return refused
    return NotStored(f"the log takes nothing now: {refused}")


def _last_of(found: list[directget.Found]) -> int:
    return found[-1].sequence if found else 0


def _stored(subject: str, sequence: int, data: bytes) -> Stored:
    try:
        commit = _commits.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"{subject} at {sequence} is no commit: {error}") from error
    aggregate, aggregate_id = parse_event(subject)
    return Stored(sequence, aggregate, aggregate_id, commit)
