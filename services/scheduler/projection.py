"""How facts become opinions: one fold, in the order of the log, in which each fact counts once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import msgspec

from services.scheduler.facts import PerformanceEvent, TaskHeard
from services.scheduler.fleet import Member, fold_member
from services.scheduler.ledger import Ended, Ledger
from services.scheduler.records import Record, Result, Trial, record_of
from services.scheduler.sketch import Sketch
from shared.contracts.config import Config
from shared.contracts.orchestrator.blame import SUCCEEDED, verdict
from shared.contracts.orchestrator.facts import (
    AttemptFailed,
    AttemptLost,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskSubmitted,
    Usage,
)
from shared.contracts.words import BotId, TaskId, TaskType
from shared.kernel.messages import Recorded

BOTS_MAX: Final = 5_000
"""Of which the ends are counted, for each type; the one that was heard of longest ago is forgotten first."""

_NOTHING: Final = Usage()


class Pending(msgspec.Struct, array_like=True):
    """A task that has not ended: its type, and the decision about its newest attempt, with its token."""

    type: TaskType
    token: int = 0
    record: Record | None = None


class Book:
    """What is counted of one type: how long and how dear its tasks are, and each bot's ledger."""

    def __init__(self) -> None:
        self.runs = Sketch()
        self.costs = Sketch()
        self.ledgers: dict[BotId, Ledger] = {}  # the one heard of longest ago first
        self.sequence = 0


@dataclass
class Changes:
    """What is not as it was; `trials` are new."""

    ledgers: set[tuple[TaskType, BotId]] = field(default_factory=set)
    types: set[TaskType] = field(default_factory=set)
    tasks: set[TaskId] = field(default_factory=set)
    bots: set[BotId] = field(default_factory=set)
    trials: dict[int, tuple[TaskType, Trial]] = field(default_factory=dict)

    def clear(self) -> None:
        """It was seen to."""
        for changed in (self.ledgers, self.types, self.tasks, self.bots, self.trials):
            changed.clear()


class Books:
    """Everything that is known. `config` is asked at each end: what it says then is how that end counts."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self.books: dict[TaskType, Book] = {}
        self.tasks: dict[TaskId, Pending] = {}
        self.fleet: dict[BotId, Member] = {}

    def book(self, kind: TaskType) -> Book:
        """What is counted of a type, from now on."""
        book = self.books.get(kind)
        if book is None:
            book = self.books[kind] = Book()
        return book

    def look(self, kind: TaskType) -> Book:
        """The same for who only looks: nothing is begun by it."""
        return self.books.get(kind) or Book()

    def take(self, commit: Recorded[Any], changes: Changes) -> None:
        """The next commit of the log."""
        match commit.aggregate:
            case "task":
                for fact in commit.facts:
                    self._take_task(fact, commit, changes)
            case "bot":
                self._take_bot(commit, changes)
            case _:
                for fact in commit.facts:
                    self._reset(fact, changes)

    def _take_bot(self, commit: Recorded[Any], changes: Changes) -> None:
        bot_id = BotId(commit.aggregate_id)
        before = member = self.fleet.get(bot_id)
        for fact in commit.facts:
            member = fold_member(member, fact)
        if member is before:
            return
        if member is None:
            del self.fleet[bot_id]
        else:
            self.fleet[bot_id] = member
        changes.bots.add(bot_id)
        if member is None or before is None:  # who comes or goes changes who is told of
            changes.types |= {kind for kind, book in self.books.items() if bot_id in book.ledgers}

    def _take_task(self, fact: TaskHeard, commit: Recorded[Any], changes: Changes) -> None:
        task_id = fact.task_id
        changes.tasks.add(task_id)
        if isinstance(fact, TaskSubmitted):
            self.tasks[task_id] = Pending(fact.type)
            return
        pending = self.tasks.get(task_id)
        if pending is None:
            return
        match fact:
            case TaskAssigned():
                book, least = self.book(pending.type), self._config().samples_min
                pending.token = commit.sequence
                pending.record = record_of(
                    fact.bot_id,
                    fact.decision,
                    commit.at,
                    ledgers=book.ledgers,
                    runs=book.runs,
                    samples_min=least,
                )
            case TaskCompleted():
                self._end(pending, fact, commit, changes)
                del self.tasks[task_id]
            case AttemptFailed() | AttemptLost():
                self._end(pending, fact, commit, changes)
            case TaskFailed() | TaskCancelled() | TaskExpired():
                del self.tasks[task_id]
            case _:
                assert_never(fact)

    def _end(
        self,
        pending: Pending,
        fact: TaskCompleted | AttemptFailed | AttemptLost,
        commit: Recorded[Any],
        changes: Changes,
    ) -> None:
        how = verdict(fact)
        if how is None:
            return
        kind, success = pending.type, how == SUCCEEDED
        book = self.book(kind)
        usage = _NOTHING if isinstance(fact, AttemptLost) else fact.usage
        run_s: float | None = None
        if isinstance(fact, TaskCompleted):
            run_s = max(0.0, (fact.ended_at - fact.started_at).total_seconds())
        ended = Ended(
            success,
            commit.at,
            run_s,
            book.runs.share_above(run_s) if run_s is not None else 0.5,
            usage.tokens_in + usage.tokens_out,
            usage.cost_usd,
        )
        ledger = book.ledgers.pop(fact.bot_id, None) or Ledger(last_at=commit.at)
        book.ledgers[fact.bot_id] = ledger
        ledger.count(ended, commit.sequence, self._config().ewma_alpha)
        book.sequence = commit.sequence
        if not isinstance(fact, AttemptLost):  # what that has cost nobody knows
            book.costs.add(usage.cost_usd)
        if run_s is not None:
            book.runs.add(run_s)
        changes.types.add(kind)
        changes.ledgers.add((kind, fact.bot_id))
        if pending.record is not None and pending.token == fact.token:
            result = Result(failed=not success, cost_usd=usage.cost_usd, run_s=run_s)
            changes.trials[fact.token] = (kind, Trial(pending.record, result))
            pending.record = None
        if len(book.ledgers) > BOTS_MAX:
            oldest = next(iter(book.ledgers))
            del book.ledgers[oldest]
            changes.ledgers.add((kind, oldest))

    def _reset(self, fact: PerformanceEvent, changes: Changes) -> None:
        for kind, book in self.books.items():
            if fact.type in (None, kind) and book.ledgers.pop(fact.bot_id, None) is not None:
                changes.ledgers.add((kind, fact.bot_id))
                changes.types.add(kind)
