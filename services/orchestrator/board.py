"""Everything alive, in memory: open tasks, bots, who holds what, who waits."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Final, NamedTuple, TypeVar, assert_never

from services.orchestrator.deadlines import Deadlines
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.decider.bot_state import Bot, NoBot, Retired, Up
from services.orchestrator.decider.circuit import HalfOpen
from services.orchestrator.decider.task_state import Blocked, Ended, Held, Task, Unknown, Waiting, state_name
from services.orchestrator.facts import BotEvent, TaskEvent
from services.orchestrator.families import Families
from services.orchestrator.kin import Kin
from services.orchestrator.lineage import Lineage
from services.orchestrator.outcomes import outcome_of
from services.orchestrator.tally import Tally, room_of
from services.orchestrator.told import ClearedBots, CountedTasks, KnownChild, KnownOutcomes, Told
from services.orchestrator.waiting import WaitingLines
from shared.contracts.naming import partition_of, service_sender
from shared.contracts.orchestrator.facts import BotLaunched, TaskSubmitted, TreeCancelled
from shared.contracts.words import BotId, TaskId
from shared.kernel.messages import Cause, Recorded

E = TypeVar("E")

OURSELVES: Final = service_sender("orchestrator")


class TaskChange(NamedTuple):
    """A task became something else."""

    task_id: TaskId
    before: Task
    after: Task


class BotChange(NamedTuple):
    """A bot became something else."""

    bot_id: BotId
    before: Bot
    after: Bot


Change = TaskChange | BotChange


@dataclass(slots=True)
class TaskEntry:
    """A task that has not ended, or whose end the log has not told yet."""

    line: Lineage[Task, TaskEvent]
    partition: int
    cause: Cause

    @property
    def state(self) -> Task:
        """As it is now."""
        return self.line.state


@dataclass(slots=True)
class BotEntry:
    """A bot, retired ones included until they are cleared: what they left is to be removed."""

    line: Lineage[Bot, BotEvent]
    partition: int
    cause: Cause

    @property
    def state(self) -> Bot:
        """As it is now."""
        return self.line.state


class Board:
    """Applies commits, our own at once and all others as the log tells them; each counts once.

    `reached` is how far the log was followed. Lines and dues are kept for the partitions in `owned`.
    Ended tasks and cleared bots are only counted, in `counts` and `cleared`.
    """

    def __init__(self) -> None:
        self.tasks: dict[TaskId, TaskEntry] = {}
        self.bots: dict[BotId, BotEntry] = {}
        self.held: defaultdict[BotId, dict[TaskId, int]] = defaultdict(dict)
        self.lines = WaitingLines()
        self.kin = Kin()
        self.families = Families()
        self.counts: Counter[str] = Counter()
        self.cleared = 0
        self.owned: frozenset[int] = frozenset()
        self.reached = 0
        self.fleet = 0  # grows with every change of a bot
        self.tally = Tally()
        self.room: dict[BotId, int] = {}  # how many more tasks a bot may be given, if it may any
        self.trials: set[BotId] = set()  # those of them whose circuit is half open
        self._given_up: dict[BotId, int] = {}
        self._reserved: dict[TaskId, BotId] = {}
        self._reserved_of: Counter[BotId] = Counter()
        self._retries: list[tuple[datetime, TaskId]] = []
        self._deadlines = Deadlines()

    def begin(self, reached: int, told: Iterable[Told]) -> None:
        """Everything alive at this sequence is here; of all others, this is to be known."""
        self.reached = max(self.reached, reached)
        self.tally.outcomes.clear()
        for each in told:
            match each:
                case CountedTasks():
                    self.counts[each.state] += each.number
                case ClearedBots():
                    self.cleared += each.number
                case KnownChild():
                    self.families.known(each.parent, each.child, each.how)
                case KnownOutcomes():
                    self.tally.outcomes[each.bot_id] = each.outcomes
                case _:
                    assert_never(each)
        for bot_id in self.bots:
            self._judge(bot_id)

    def own_task(self, commit: Recorded[TaskEvent]) -> TaskChange | None:
        """A task's commit of this process, at once; None if it is known already."""
        return None if commit.sequence <= self.reached else self._take_task(commit, ahead=True)

    def own_bot(self, commit: Recorded[BotEvent]) -> BotChange | None:
        """A bot's commit of this process, at once; None if it is known already."""
        return None if commit.sequence <= self.reached else self._take_bot(commit, ahead=True)

    def followed_task(self, commit: Recorded[TaskEvent]) -> TaskChange | None:
        """A task's commit as the log tells it; None if it changes nothing."""
        return self._take_task(commit, ahead=False) if self._reach(commit.sequence) else None

    def followed_bot(self, commit: Recorded[BotEvent]) -> BotChange | None:
        """A bot's commit as the log tells it; None if it changes nothing."""
        return self._take_bot(commit, ahead=False) if self._reach(commit.sequence) else None

    def own_partitions(self, owned: frozenset[int]) -> None:
        """From now on the tasks of these partitions are ours to place."""
        self.owned = owned
        self.lines = WaitingLines(self.lines.shares)
        for task_id, entry in self.tasks.items():
            if isinstance(entry.state, Waiting):
                self._wait(task_id, entry, entry.state)
        for bot_id in self.bots:
            self._refit(bot_id)

    def task(self, task_id: TaskId) -> Task:
        """A task that has not ended; Unknown if there is none."""
        entry = self.tasks.get(task_id)
        return Unknown() if entry is None else entry.state

    def bot(self, bot_id: BotId) -> Bot:
        """A bot; NoBot if there is none."""
        entry = self.bots.get(bot_id)
        return NoBot() if entry is None else entry.state

    def free(self, bot_id: BotId) -> int:
        """How many more tasks an up bot may be given."""
        return self.room.get(bot_id, 0)

    def busy(self, bot_id: BotId) -> int:
        """How many tasks a bot holds, or is about to be given."""
        return len(self.held.get(bot_id, ())) + self._reserved_of[bot_id]

    def give_up(self, bot_id: BotId, since: int) -> None:
        """Its pool does without it: what came up before this sequence is given nothing any more."""
        self._given_up[bot_id] = since
        self._refit(bot_id)

    def keep(self, bot_id: BotId) -> None:
        """It is not given up after all."""
        self._given_up.pop(bot_id, None)
        self._refit(bot_id)

    def reserve(self, task_id: TaskId, bot_id: BotId) -> None:
        """Keep a slot until the assignment is decided, or released."""
        self._unreserve(task_id)
        self._reserved[task_id] = bot_id
        self._reserved_of[bot_id] += 1
        self._refit(bot_id)
        self.lines.take(task_id)

    def release(self, task_id: TaskId) -> None:
        """The assignment was not decided: the slot is free, and the task waits on."""
        if self._unreserve(task_id) and (entry := self.tasks.get(task_id)) is not None:
            state = entry.state
            if isinstance(state, Waiting):
                self._wait(task_id, entry, state)

    def due_retries(self, now: datetime) -> bool:
        """Whether a retry came due; from now on it waits for a bot like any other task."""
        came = False
        while self._retries and self._retries[0][0] <= now:
            due, task_id = heappop(self._retries)
            entry = self.tasks.get(task_id)
            if entry is None or entry.partition not in self.owned:
                continue
            state = entry.state
            if isinstance(state, Waiting) and state.retry_at == due and task_id not in self._reserved:
                self.lines.add(state.order, state.since.timestamp())
                came = True
        return came

    def overdue(self, now: datetime) -> list[TaskId]:
        """Our open tasks whose deadline has passed."""
        passed = self._deadlines.passed(now, self.tasks)
        return [task_id for task_id in passed if self.tasks[task_id].partition in self.owned]

    def _reach(self, sequence: int) -> bool:
        news = sequence > self.reached
        self.reached = max(self.reached, sequence)
        return news

    def _take_task(self, commit: Recorded[TaskEvent], *, ahead: bool) -> TaskChange | None:
        task_id = TaskId(commit.aggregate_id)
        entry = self.tasks.get(task_id)
        if entry is None:
            entry = self.tasks[task_id] = TaskEntry(Lineage(TASK), partition_of(task_id), _cause(commit))
        before = entry.state
        for fact in commit.facts:
            spawned = isinstance(fact, TaskSubmitted) and isinstance(before, Unknown) and fact.ancestors
            if isinstance(fact, TaskSubmitted) and spawned and spawned[-1] in self.tasks:
                self.families.add(fact)
        changed = entry.line.own(commit) if ahead else entry.line.followed(commit)
        after = entry.state
        if changed:
            entry.cause = _cause(commit)
            self._index(task_id, entry, before, after)
        self._learn(commit)
        if isinstance(after, Ended | Unknown) and entry.line.settled:  # Unknown: it had ended long ago
            del self.tasks[task_id]
            self.families.forget(task_id)
        return TaskChange(task_id, before, after) if changed else None

    def _take_bot(self, commit: Recorded[BotEvent], *, ahead: bool) -> BotChange | None:
        bot_id = BotId(commit.aggregate_id)
        entry = self.bots.get(bot_id)
        if entry is None:
            entry = self.bots[bot_id] = BotEntry(Lineage(BOT), partition_of(bot_id), _cause(commit))
            self.cleared -= _launched_again(commit)
        before = entry.state
        changed = entry.line.own(commit) if ahead else entry.line.followed(commit)
        after = entry.state
        if changed:
            entry.cause = _cause(commit)
            self.fleet += 1
            if any(isinstance(fact, BotLaunched) for fact in commit.facts):
                self.tally.forget(bot_id)
            self._judge(bot_id)
        if is_cleared(after) and entry.line.settled:
            del self.bots[bot_id]
            self.cleared += 1
            for index in (self.held, self._reserved_of):
                if not index.get(bot_id):
                    index.pop(bot_id, None)
            self.tally.forget(bot_id)
            self._refit(bot_id)
        return BotChange(bot_id, before, after) if changed else None

    def _index(self, task_id: TaskId, entry: TaskEntry, before: Task, after: Task) -> None:
        self._unreserve(task_id)
        match before:
            case Unknown() | Blocked() | Ended():
                pass
            case Waiting():
                self.lines.remove(task_id)
            case Held():
                self.held[before.bot_id].pop(task_id, None)
                self._refit(before.bot_id)
            case _:
                assert_never(before)
        match after:
            case Unknown() | Blocked() | Ended():
                pass
            case Waiting():
                self._wait(task_id, entry, after)
            case Held():
                self.held[after.bot_id][task_id] = after.token
                self._refit(after.bot_id)
            case _:
                assert_never(after)
        self._relate(task_id, before, after)
        if isinstance(before, Unknown) and isinstance(after, Waiting | Held) and after.order.deadline:
            self._deadlines.add(after.order.deadline, task_id, self.tasks)
        if not isinstance(before, Unknown):
            self.counts[state_name(before)] -= 1
        if not isinstance(after, Unknown):
            self.counts[state_name(after)] += 1

    def _relate(self, task_id: TaskId, before: Task, after: Task) -> None:
        """Who waits for whom."""
        now = isinstance(after, Waiting) and after.dependent
        if isinstance(after, Waiting) and now and isinstance(before, Unknown):
            self.kin.began(after.order, after.since, self.task)
        elif isinstance(before, Unknown) and not isinstance(after, Unknown):
            self.kin.opened(task_id)
        elif not now:
            self.kin.forget(task_id)
        if isinstance(after, Waiting | Held) and isinstance(before, Unknown) and after.order.ancestors:
            self.kin.spawned(after.order, self.task)
        if isinstance(after, Ended):
            self.kin.left(task_id)
            self.kin.ended(task_id, after.how)
            self.families.ended(task_id, after.how)

    def _learn(self, commit: Recorded[TaskEvent]) -> None:
        """What a task's commit tells about others, tasks and bots; told again, it is known."""
        for fact in commit.facts:
            if isinstance(fact, TreeCancelled):
                self.kin.condemned(fact.task_id)
            found = outcome_of(fact, commit.sequence)
            if found is None or found[0] not in self.bots:
                continue
            bot_id, news = found
            if self.tally.learn(bot_id, news):
                self._judge(bot_id)

    def _judge(self, bot_id: BotId) -> None:
        """What is to become of its circuit."""
        bot = self.bot(bot_id)
        if not isinstance(bot, NoBot):
            self.tally.judge(bot_id, bot.circuit)
        self._refit(bot_id)

    def _refit(self, bot_id: BotId) -> None:
        """Count again how many more tasks it may be given."""
        room = self._room_of(bot_id)
        self.trials.discard(bot_id)
        if room <= 0:
            self.room.pop(bot_id, None)
            return
        self.room[bot_id] = room
        state = self.bots[bot_id].state
        if isinstance(state, Up) and isinstance(state.circuit, HalfOpen):
            self.trials.add(bot_id)

    def _room_of(self, bot_id: BotId) -> int:
        entry = self.bots.get(bot_id)
        if entry is None or not isinstance(entry.state, Up):
            return 0
        if entry.state.token < self._given_up.get(bot_id, 0):
            return 0
        return room_of(
            entry.state,
            self.held[bot_id].values(),
            self._reserved_of[bot_id],
            self.tally.verdicts.get(bot_id),
            ours=entry.partition in self.owned,
        )

    def _wait(self, task_id: TaskId, entry: TaskEntry, state: Waiting) -> None:
        if entry.partition not in self.owned or task_id in self._reserved or state.dependent:
            return
        if state.retry_at is None:
            self.lines.add(state.order, state.since.timestamp())
        else:
            heappush(self._retries, (state.retry_at, task_id))

    def _unreserve(self, task_id: TaskId) -> bool:
        bot_id = self._reserved.pop(task_id, None)
        if bot_id is None:
            return False
        self._reserved_of[bot_id] -= 1
        self._refit(bot_id)
        return True


def is_cleared(bot: Bot) -> bool:
    """Whether a bot is gone, and its name is free."""
    return isinstance(bot, Retired) and bot.cleared


def _launched_again(commit: Recorded[BotEvent]) -> bool:
    """Whether a bot that was cleared, and only counted, is alive again."""
    return any(isinstance(fact, BotLaunched) and fact.generation > 1 for fact in commit.facts)


def _cause(commit: Recorded[E]) -> Cause:
    """What we do about it is caused by it, and done by us."""
    return Cause(message_id=commit.commit_id, correlation_id=commit.cause.correlation_id, actor=OURSELVES)
