"""Pools in memory, seen with the bots and tasks on the board: readings, and what is outstanding."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from services.orchestrator.board import BotEntry
from services.orchestrator.decider.bot_state import (
    Broken,
    NoBot,
    Restarting,
    Retired,
    Starting,
    Stopped,
    Stopping,
    Up,
)
from services.orchestrator.decider.pool import Member, Pool
from services.orchestrator.decider.task_state import Waiting
from services.orchestrator.facts import PoolEvent
from services.orchestrator.hosts import SILENT_AFTER_S
from services.orchestrator.pool_commands import Idle, ScalePool
from services.orchestrator.pool_keeping import Kept, fold
from services.orchestrator.pool_pace import Pace
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.waiting import Wants, wants_of
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.commands import LaunchBot, RetireBot, StopBot
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.pools import PoolName, Readings
from shared.contracts.words import BotId
from shared.kernel.messages import Recorded

SETTLED_AFTER_S: Final = 1.0
"""So long after a bot was given up everybody who places tasks knows it."""

LISTENED_S: Final = 2.0
"""Who began to listen later does not scale yet: hosts and bots have not been heard."""

_kept = msgspec.json.Decoder(Kept)


class Change(msgspec.Struct, frozen=True):
    """What a decision of a pool still asks of a bot. Each is decided once: `since` is that decision."""

    pool: PoolName
    since: int
    command: LaunchBot | StopBot | RetireBot

    @property
    def key(self) -> tuple[str, BotId, int]:
        """What makes two the same."""
        return (type(self.command).__name__, self.command.bot_id, self.since)


class Pools:
    """Every pool there is."""

    def __init__(self, scene: Scene) -> None:
        self.kept: dict[PoolName, Kept] = {}
        self._scene = scene
        self._pace = Pace()
        self._done: set[tuple[str, BotId, int]] = set()

    def begin(self, _sequence: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """What the table says."""
        for (doc,) in rows:
            self._put(_kept.decode(doc))

    def take(self, commit: Recorded[PoolEvent]) -> None:
        """A commit of a pool, our own or as the log tells it."""
        after = fold(self.kept.get(PoolName(commit.aggregate_id)), commit)
        if after is not None:
            self._put(after)

    def heard(self, commit: Recorded[Any], mono: float) -> None:
        """A commit of a task, as the log tells it."""
        if commit.aggregate == "task":
            bots = self._scene.board.bots
            pool_of = {
                bot_id: state.spec.pool
                for bot_id in {getattr(fact, "bot_id", None) for fact in commit.facts}
                if bot_id in bots and not isinstance(state := bots[bot_id].state, NoBot)
            }
            self._pace.hear(commit, pool_of, mono)

    def done(self, change: Change) -> None:
        """It is decided. A launched bot that is not there was retired by somebody."""
        self._done.add(change.key)

    # What a pool is like now.

    def look(self, pool: Pool, moment: Moment) -> ScalePool:
        """All that the pool decides by."""
        own = {each.bot_id: each for each in pool.members}
        idle: list[Idle] = []
        size = bots_up = slots = held = broken = 0
        loads: list[float] = []
        for bot_id, entry in self._of(pool):
            size += 1
            has = self._scene.board.busy(bot_id)
            if has:
                self._pace.busy(bot_id, moment.mono)
            state = entry.state
            broken += isinstance(state, Broken)
            if isinstance(state, Up) and not state.silent:
                bots_up, slots, held = bots_up + 1, slots + state.spec.slots, held + has
                loads.append(has / state.spec.slots)
            idle_s = self._pace.idle_s(bot_id, moment.mono)
            if not has and bot_id in own and not isinstance(state, Starting | Restarting):
                idle.append(Idle(bot_id, idle_s))
        size += sum(self._is_to_come(each) for each in pool.members)
        idle.sort(key=lambda each: (-each.idle_s, each.bot_id))
        report = self._scene.hosts.reports.get(pool.template.host)
        waiting = self._waiting(pool)
        mean = self._mean(pool, waiting)
        queue = sum(waiting.values())
        readings = Readings(
            size=size,
            queue=queue,
            bots_up=bots_up,
            slots=slots,
            held=held,
            load=round(held / slots, 4) if slots else 0.0,
            bot_load=round(sum(loads) / len(loads), 4) if loads else 0.0,
            broken=broken,
            idle=len(idle),
            longest_idle_s=round(idle[0].idle_s, 3) if idle else 0.0,
            mean_run_s=None if mean is None else round(mean, 4),
            clear_s=None if mean is None or not slots else round(queue * mean / slots, 3),
            host=pool.template.host,
            host_heard=report is not None and moment.mono - report.mono <= SILENT_AFTER_S,
            cpu_share=None if report is None else report.cpu_share,
            memory_share=None if report is None else report.memory_share,
        )
        return ScalePool(
            name=pool.name,
            about=pool.version,
            readings=readings,
            rules=moment.config.scaling,
            idle=tuple(idle),
            names=tuple(self._names(pool, max(0, pool.max - size))),
        )

    def bots_of(self, pool: Pool) -> tuple[BotId, ...]:
        """The bots that it launched, and that are there or to come."""
        there = {bot_id for bot_id, _ in self._of(pool)}
        return tuple(each.bot_id for each in pool.members if each.bot_id in there or self._is_to_come(each))

    def going_of(self, pool: Pool) -> tuple[BotId, ...]:
        """The bots that it gave up, and that are not gone yet."""
        board = self._scene.board
        return tuple(
            each.bot_id
            for each in pool.leaving
            if not isinstance(state := board.bot(each.bot_id), NoBot | Retired)
            and not (isinstance(state, Up) and state.token > each.since)
        )

    # What is outstanding.

    def ours(self, moment: Moment) -> Iterator[Kept]:
        """The pools of our partitions, when enough was heard to decide about them."""
        if moment.mono - self._scene.liveness.since >= LISTENED_S:
            owned = self._scene.board.owned
            yield from [each for name, each in self.kept.items() if partition_of(name) in owned]

    def outstanding(self, moment: Moment) -> Iterator[Change]:
        """What earlier decisions still ask for, in our partitions."""
        self._pace.keep_only(self._scene.board.bots)
        for kept in self.ours(moment):
            pool = kept.state
            for member in pool.members:
                if self._is_to_come(member):
                    launch = LaunchBot(bot_id=member.bot_id, spec=pool.template)
                    yield Change(pool.name, member.since, launch)
            for member in pool.leaving:
                command = self._leave(member, moment)
                change = None if command is None else Change(pool.name, member.since, command)
                if change is not None and change.key not in self._done:
                    yield change

    def _leave(self, member: Member, moment: Moment) -> StopBot | RetireBot | None:
        """How a bot that was given up goes on: drained once it has nothing, and then gone for good."""
        board, bot_id = self._scene.board, member.bot_id
        match board.bot(bot_id):
            case Up(token=token) if token > member.since:
                return None  # somebody launched it again: it is not the pool's
            case Up() | Starting():
                settled = (moment.utc - member.at).total_seconds() >= SETTLED_AFTER_S
                return StopBot(bot_id=bot_id) if settled and not board.busy(bot_id) else None
            case Stopped() | Broken() | Restarting():
                return RetireBot(bot_id=bot_id)
            case NoBot() | Stopping() | Retired():
                return None

    def _put(self, kept: Kept) -> None:
        self.kept[kept.state.name] = kept
        for each in kept.state.leaving:
            self._scene.board.give_up(each.bot_id, each.since)

    def _of(self, pool: Pool) -> Iterator[tuple[BotId, BotEntry]]:
        """The bots of a pool, whoever launched them, but those that go or are gone."""
        leaving = {each.bot_id: each.since for each in pool.leaving}
        for bot_id, entry in self._scene.board.bots.items():
            state = entry.state
            if isinstance(state, NoBot | Retired | Stopped | Stopping) or state.spec.pool != pool.name:
                continue
            if bot_id in leaving and not (isinstance(state, Up) and state.token > leaving[bot_id]):
                continue
            yield bot_id, entry

    def _is_to_come(self, member: Member) -> bool:
        """Whether its launch is wanted, and not yet decided."""
        known = (LaunchBot.__name__, member.bot_id, member.since)
        if member.bot_id in self._scene.board.bots:
            self._done.add(known)
        return known not in self._done

    def _names(self, pool: Pool, most: int) -> Iterator[BotId]:
        """Names that nobody has, the smallest numbers first."""
        taken = {each.bot_id for each in pool.members if self._is_to_come(each)}
        number, found = 0, 0
        while found < most:
            number += 1
            name = BotId(f"{pool.name}-{number}")
            if name not in taken and name not in self._scene.board.bots:
                found += 1
                yield name

    def _waiting(self, pool: Pool) -> dict[Wants, int]:
        """How many tasks wait that the pool's bots could do, by what they require."""
        board = self._scene.board
        if board.owned:
            counted = {wants: board.lines.count(wants) for wants in board.lines.wanted()}
        else:  # a standby is only asked: it keeps no lines
            counted = {}
            for entry in board.tasks.values():
                state = entry.state
                if isinstance(state, Waiting) and not state.dependent and state.retry_at is None:
                    wants = wants_of(state.order)
                    counted[wants] = counted.get(wants, 0) + 1
        return {wants: count for wants, count in counted.items() if count and _fits(pool.template, wants)}

    def _mean(self, pool: Pool, waiting: dict[Wants, int]) -> float | None:
        """The mean run time of what waits, if it is known of each type of it."""
        total, count = 0.0, 0
        for wants, number in waiting.items():
            mean = self._pace.mean_run_s(pool.name, wants.type)
            if mean is None:
                return None
            total, count = total + number * mean, count + number
        return total / count if count else None


def _fits(template: BotSpec, wants: Wants) -> bool:
    return (
        wants.bot is None
        and wants.engine in (None, template.engine)
        and wants.pool in (None, template.pool)
        and (not template.types or wants.type in template.types)
    )
