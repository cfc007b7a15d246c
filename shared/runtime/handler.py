"""Carries a command to its aggregate: load, decide, append; again when someone was faster.

The rules are those of docs/architecture.md, "Commands". A command is decided once: each commit names the
command that caused it, and the aggregate remembers its causes. What memory says is checked against the log
before it is believed: by the expected version of the append, or, where nothing is to be written, by reading
the subject's last sequence.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from shared.kernel.codec import Codec, encode
from shared.kernel.decider import Decider
from shared.kernel.errors import NotStored, Rejected, Unavailable, VersionConflict
from shared.kernel.messages import AlreadySo, Cause, Command, Commit, Committed, Outcome, Recorded, Refused
from shared.runtime import metrics
from shared.runtime.ids import jittered
from shared.runtime.store import EventStore

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

CONFLICTS_MAX = 8
REMEMBERED_MAX = 20_000  # aggregates held in memory; others are loaded from the log
# Of an aggregate that lives for years, the causes of its last commits. A command comes again only while it is
# not acknowledged, ACK_WAIT (2 s) after it came first; nothing writes one aggregate 500 times a second.
CAUSES_MAX = 1_000
READ_BACK_WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)


@dataclass(frozen=True)
class Known(Generic[S]):
    """An aggregate as this process knows it; `sure` when it was read from the log just now."""

    state: S
    version: int = 0
    at: datetime | None = None
    causes: dict[str, int] = field(default_factory=dict)
    sure: bool = False


@dataclass(frozen=True)
class Effects(Generic[C, E]):
    """What a service adds to its handler.

    `prepare(state, command)` fills a command with what the service knows now, just before each decision;
    `released` is told of a prepared command that did not become facts; `committed` is told of each own
    commit, before its outcome goes out. `recall` is what a view of the service knows of an aggregate: of one
    that lives for years only what came after that is read from the log.
    """

    prepare: Callable[[object, C], C] | None = None
    released: Callable[[C], None] | None = None
    committed: Callable[[Recorded[E]], None] | None = None
    recall: Callable[[str], Known[Any] | None] | None = None


class Handler(Generic[S, C, E]):
    """Decides commands of one kind of aggregate, one at a time for each aggregate."""

    def __init__(
        self,
        decider: Decider[S, C, E],
        aggregate: str,
        codec: Codec[E],
        store: EventStore,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        service: str = "",
        effects: Effects[C, E] | None = None,
    ) -> None:
        self.aggregate = aggregate
        self._decider = decider
        self._codec = codec
        self._store = store
        self._now = now
        self._new_id = new_id
        self._service = service
        self._effects: Effects[C, E] = effects or Effects()
        self._known: OrderedDict[str, Known[S]] = OrderedDict()
        self._turns: dict[str, list[asyncio.Future[None]]] = {}

    async def handle(
        self, command: C, cause: Cause, *, command_id: str | None = None, once: bool = False
    ) -> Outcome:
        """Decide one command. Refused is an outcome; Unavailable: the log is away, or the end unknown.

        `once`: an append that came to nothing is Unavailable, too, and not made again here, where it could
        fall behind what is to follow it.
        """
        key = command.key
        await self._my_turn(key)
        try:
            return await self._decide(key, command, cause, command_id or self._new_id(), once=once)
        finally:
            self._next_turn(key)

    async def state(self, aggregate_id: str) -> tuple[S, int]:
        """The aggregate's state and version as the log has them."""
        known = await self._load(aggregate_id)
        return known.state, known.version

    def forget(self) -> None:
        """Drop what memory holds: another process may have decided meanwhile."""
        self._known.clear()

    async def _decide(self, key: str, command: C, cause: Cause, command_id: str, *, once: bool) -> Outcome:
        known = self._known.get(key)
        if known is None:
            known = Known(state=self._decider.initial) if command.opens else await self._load(key)
        for _ in range(CONFLICTS_MAX):
            if (sequence := known.causes.get(command_id)) is not None:
                return Committed(command_id=command_id, sequence=sequence)
            prepared = (
                command if self._effects.prepare is None else self._effects.prepare(known.state, command)
            )
            committed = False
            try:
                at = self._now() if known.at is None else max(self._now(), known.at)
                answer = self._answer(known, prepared, at)
                if isinstance(answer, list) and answer:
                    commit = self._commit(answer, cause, command_id, at)
                    try:
                        sequence = await self._store.append(
                            self.aggregate, key, commit, expected=known.version
                        )
                    except VersionConflict:
                        metrics.CONFLICTS.labels(self._service).inc()
                        known = await self._load(key)
                        continue
                    except NotStored:
                        raise
                    except Unavailable:
                        known = await self._read_back(key)
                        if once and command_id not in known.causes:
                            raise
                        continue
                    committed = True
                    self._remember(key, known, answer, commit, sequence)
                    return Committed(command_id=command_id, sequence=sequence)
            finally:
                if not committed and self._effects.released is not None:
                    self._effects.released(prepared)
            if not known.sure and await self._store.version(self.aggregate, key) != known.version:
                known = await self._load(key)
                continue
            if isinstance(answer, Rejected):
                return Refused(command_id=command_id, code=answer.code, detail=answer.detail)
            return AlreadySo(command_id=command_id, sequence=known.version)
        raise Unavailable(f"{self.aggregate} {key}: {CONFLICTS_MAX} writers were faster")

    def _answer(self, known: Known[S], command: C, at: datetime) -> list[E] | Rejected:
        try:
            return self._decider.decide(known.state, command, at)
        except Rejected as rejected:
            return rejected

    def _commit(self, facts: list[E], cause: Cause, command_id: str, at: datetime) -> Commit:
        return Commit(
            id=self._new_id(),
            at=at,
            actor=cause.actor,
            cause=command_id,
            chain=cause.correlation_id,
            facts=[msgspec.Raw(encode(fact)) for fact in facts],
        )

    def _remember(self, key: str, known: Known[S], facts: list[E], commit: Commit, sequence: int) -> None:
        _note(known.causes, commit.cause, sequence)
        state = self._decider.fold(known.state, facts, sequence, commit.at)
        self._keep(key, Known(state=state, version=sequence, at=commit.at, causes=known.causes))
        if self._effects.committed is not None:
            self._effects.committed(recorded(tuple(facts), commit, self.aggregate, key, sequence))

    async def _load(self, key: str) -> Known[S]:
        recalled: Known[S] | None = None if self._effects.recall is None else self._effects.recall(key)
        begun = Known(state=self._decider.initial) if recalled is None else recalled
        state, version, at, causes = begun.state, begun.version, begun.at, dict(begun.causes)
        for stored in await self._store.read(self.aggregate, key, version):
            commit = stored.commit
            facts = self._codec.decode_all(commit.facts)
            state = self._decider.fold(state, facts, stored.sequence, commit.at)
            version, at = stored.sequence, commit.at
            _note(causes, commit.cause, version)
        known = Known(state=state, version=version, at=at, causes=causes)
        if version:
            self._keep(key, known)
        return replace(known, sure=True)

    async def _read_back(self, key: str) -> Known[S]:
        """What became of an append that nobody answered: the log knows, as soon as it can be asked."""
        self._known.pop(key, None)
        for wait_s in READ_BACK_WAITS_S:
            try:
                return await self._load(key)
            except Unavailable:
                await asyncio.sleep(jittered(wait_s))
        return await self._load(key)

    def _keep(self, key: str, known: Known[S]) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)

    async def _my_turn(self, key: str) -> None:
        waiting = self._turns.get(key)
        if waiting is None:
            self._turns[key] = []
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next_turn(key)
            raise

    def _next_turn(self, key: str) -> None:
        waiting = self._turns[key]
        while waiting:
            turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        del self._turns[key]


def _note(causes: dict[str, int], cause: str, sequence: int) -> None:
    causes[cause] = sequence
    if len(causes) > CAUSES_MAX:
        del causes[next(iter(causes))]


def recorded(facts: tuple[E, ...], commit: Commit, aggregate: str, key: str, sequence: int) -> Recorded[E]:
    """A commit with its decoded facts."""
    return Recorded(
        facts=facts,
        commit_id=commit.id,
        aggregate=aggregate,
        aggregate_id=key,
        sequence=sequence,
        at=commit.at,
        cause=Cause(message_id=commit.cause, correlation_id=commit.chain, actor=commit.actor),
    )
