"""The schedules in memory: when each is to be looked at next, and which of their tasks are not submitted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

import msgspec

from services.scheduler.decider.schedule import wakes_at
from services.scheduler.decider.schedule_state import Schedule
from services.scheduler.schedule_commands import Tick
from services.scheduler.schedule_facts import ScheduleEvent
from services.scheduler.schedule_keeping import Kept, Open, fold, is_end, opened
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.facts import TaskSubmitted
from shared.contracts.scheduler.schedules import ScheduleName, ScheduleTaskRefused
from shared.contracts.words import TaskId
from shared.kernel.messages import Recorded

_kept = msgspec.json.Decoder(Kept)
_open = msgspec.json.Decoder(Open)


@dataclass(slots=True)
class Entry:
    """A schedule; `wake`: when it is looked at next, None: it waits for a commit, or for `todo`."""

    kept: Kept
    partition: int
    running: set[TaskId] = field(default_factory=set)
    wake: datetime | None = None


class Due(msgspec.Struct, frozen=True):
    """A schedule that has something to decide. `about` is the version that this is about."""

    command: Tick
    about: int


class Board:
    """Every schedule there is, by the time at which it is to be looked at."""

    def __init__(self) -> None:
        self.owned: frozenset[int] = frozenset()
        self.entries: dict[ScheduleName, Entry] = {}
        self.unsubmitted: dict[TaskId, Open] = {}
        self._open: dict[TaskId, ScheduleName] = {}
        self._heap: list[tuple[datetime, ScheduleName]] = []
        self._looked_at: set[ScheduleName] = set()

    def begin(self, _sequence: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """What the table says: (`schedule`, a Kept, 0), and (`open`, an Open, whether it is submitted)."""
        for kind, doc, submitted in rows:
            if kind == "schedule":
                self._put(_kept.decode(doc))
            else:
                each = _open.decode(doc)
                self._begun(each)
                if submitted:
                    del self.unsubmitted[each.task_id]
        for name, entry in self.entries.items():
            self._refit(name, entry)

    def take_schedule(self, commit: Recorded[ScheduleEvent]) -> None:
        """A commit of a schedule, as the log tells it."""
        name = ScheduleName(commit.aggregate_id)
        entry = self.entries.get(name)
        before = None if entry is None else entry.kept
        after = fold(before, commit)
        if after is None or after is before:
            return
        for each in opened(before, commit):
            self._begun(each)
        for fact in commit.facts:
            if isinstance(fact, ScheduleTaskRefused):
                self._over(fact.task_id)
        if isinstance(after.state, Schedule):
            self._refit(name, self._put(after))
        else:
            self.entries.pop(name, None)
            self._looked_at.discard(name)

    def take_task(self, commit: Recorded[Any]) -> bool:
        """A commit of a task: ours may be submitted now, or over. False: it is none of ours."""
        task_id = TaskId(commit.aggregate_id)
        name = self._open.get(task_id)
        if name is None:
            return False
        for fact in commit.facts:
            if isinstance(fact, TaskSubmitted):
                self.unsubmitted.pop(task_id, None)
            elif is_end(fact):
                self._over(task_id)
                entry = self.entries.get(name)
                if entry is not None:
                    self._refit(name, entry)
        return True

    def submitted(self, task_id: TaskId) -> None:
        """The orchestrator says that it has this task."""
        self.unsubmitted.pop(task_id, None)

    def due(self, now: datetime, most: int) -> list[Due]:
        """What has something to decide by now, in the partitions that are ours."""
        found: list[Due] = []
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            wake, name = heappop(self._heap)
            entry = self.entries.get(name)
            if entry is None or entry.wake != wake:
                continue  # it was put in again, for another time
            entry.wake = None
            self._looked_at.add(name)
            if entry.partition in self.owned:
                newest = entry.kept.state.newest if isinstance(entry.kept.state, Schedule) else None
                tick = Tick(name=name, running=bool(entry.running), newest=newest)
                found.append(Due(tick, entry.kept.version))
        return found

    def look_again(self) -> None:
        """What was looked at and did not become a commit since is due still."""
        for name in list(self._looked_at):
            entry = self.entries[name]
            if entry.partition in self.owned:
                self._refit(name, entry)

    def to_submit(self, most: int) -> Iterator[Open]:
        """Tasks of ticks that the orchestrator has not confirmed, in the partitions that are ours."""
        ours = (each for each in self.unsubmitted.values() if partition_of(each.name) in self.owned)
        return islice(ours, most)

    def next_wake(self) -> datetime | None:
        """When the next one is to be looked at."""
        return self._heap[0][0] if self._heap else None

    def running(self, name: ScheduleName) -> Iterable[TaskId]:
        """The tasks of a schedule's ticks that have not ended."""
        entry = self.entries.get(name)
        return () if entry is None else sorted(entry.running)

    def _put(self, kept: Kept) -> Entry:
        assert isinstance(kept.state, Schedule), kept
        name = kept.state.name
        entry = self.entries.get(name)
        if entry is None:
            running = {task_id for task_id, of in self._open.items() if of == name} if self._open else set()
            entry = self.entries[name] = Entry(kept, partition_of(name), running)
        entry.kept = kept
        return entry

    def _refit(self, name: ScheduleName, entry: Entry) -> None:
        self._looked_at.discard(name)
        state = entry.kept.state
        assert isinstance(state, Schedule), state
        if state.waiting is not None and not entry.running:
            wake: datetime | None = entry.kept.at
        else:
            wake = wakes_at(state)
        if wake == entry.wake:
            return
        entry.wake = wake
        if wake is not None:
            heappush(self._heap, (wake, name))
            self._tidy()

    def _tidy(self) -> None:
        """Leave out what was put in again for another time, when that is most of it."""
        if len(self._heap) > 2 * len(self.entries) + 1_000:
            self._heap = [
                (entry.wake, name) for name, entry in self.entries.items() if entry.wake is not None
            ]
            heapify(self._heap)

    def _begun(self, each: Open) -> None:
        self._open[each.task_id] = each.name
        self.unsubmitted[each.task_id] = each
        entry = self.entries.get(each.name)
        if entry is not None:
            entry.running.add(each.task_id)

    def _over(self, task_id: TaskId) -> None:
        self.unsubmitted.pop(task_id, None)
        name = self._open.pop(task_id, None)
        entry = None if name is None else self.entries.get(name)
        if entry is not None:
            entry.running.discard(task_id)
