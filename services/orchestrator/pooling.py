"""Pools at work: looks at each four times a second, and does what its decisions ask for."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol, assert_never

import msgspec

from services.orchestrator.board import Board
from services.orchestrator.commands import BotWish
from services.orchestrator.decider.pool import POOL, Pool, PoolState
from services.orchestrator.facts import PoolEvent
from services.orchestrator.pool_board import Change, Pools
from services.orchestrator.pool_commands import PoolWish, ScalePool
from services.orchestrator.scene import Moment
from shared.contracts.orchestrator.pools import PoolName, PoolScaled
from shared.contracts.words import BotId
from shared.kernel.messages import Cause, Outcome, Recorded
from shared.runtime.ids import derived_id
from shared.runtime.outstanding import Outstanding

LOOK_EVERY_S: Final = 0.25

NEVER_AGAIN: Final = 2**63 - 1
"""Later than any sequence: until it is decided whether the bot has to go."""


class Scale(msgspec.Struct, frozen=True):
    """Decide about a pool: something would come of it."""

    command: ScalePool


Step = Scale | Change


class DecidesPools(Protocol):
    """The handler of pools."""

    async def handle(self, command: PoolWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...


class DecidesBots(Protocol):
    """The handler of bots."""

    async def handle(self, command: BotWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...


def key_of(step: Step) -> tuple[str, ...]:
    """What makes two steps the same: while one is under way, the other is not begun."""
    match step:
        case Scale():
            return ("scale", step.command.name, str(step.command.about))
        case Change():
            command, bot_id, since = step.key
            return (command, bot_id, str(since))
        case _:
            assert_never(step)


class Pooling:
    """Only who owns a pool's partition scales it. A step that failed is found again at the next look."""

    def __init__(
        self, pools: Pools, board: Board, *, moment: Callable[[], Moment], owned: Callable[[], frozenset[int]]
    ) -> None:
        self._pools = pools
        self._board = board
        self._moment = moment
        self._owned = owned
        self._wake = asyncio.Event()
        self._kept_back: dict[PoolName, tuple[BotId, ...]] = {}
        self._outstanding: Outstanding[Step]

    # What the handler of pools asks and tells.

    def prepare(self, pool: PoolState, command: PoolWish) -> PoolWish:
        """Look again just before it is decided; who is to go gets nothing while it is."""
        if not isinstance(command, ScalePool) or not isinstance(pool, Pool):
            return command
        moment = self._moment()
        fresh = msgspec.structs.replace(self._pools.look(pool, moment), about=command.about)
        for fact in POOL.decide(pool, fresh, moment.utc):
            if isinstance(fact, PoolScaled) and fact.decision == "down":
                self._kept_back[pool.name] = fact.bots
                for bot_id in fact.bots:
                    self._board.give_up(bot_id, NEVER_AGAIN)
        return fresh

    def released(self, command: PoolWish) -> None:
        """Nobody has to go."""
        if isinstance(command, ScalePool):
            for bot_id in self._kept_back.pop(command.name, ()):
                self._board.keep(bot_id)

    def committed(self, commit: Recorded[PoolEvent]) -> None:
        """An own commit, ahead of the log."""
        for bot_id in self._kept_back.pop(PoolName(commit.aggregate_id), ()):
            self._board.keep(bot_id)
        self.followed(commit)

    def followed(self, commit: Recorded[Any]) -> None:
        """A commit of a pool as the log tells it."""
        self._pools.take(commit)
        self._wake.set()

    async def run(self, perform: Callable[[Step], Awaitable[None]]) -> None:
        """Look at all pools, for ever."""
        async with asyncio.TaskGroup() as group:
            self._outstanding = Outstanding(group, perform, key_of)
            while True:
                self._wake.clear()
                if self._owned():
                    self._outstanding.begin(list(self._steps(self._moment())))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._wake.wait()

    def _steps(self, moment: Moment) -> Iterator[Step]:
        yield from self._pools.outstanding(moment)
        for kept in self._pools.ours(moment):
            asked = self._pools.look(kept.state, moment)
            if POOL.decide(kept.state, asked, moment.utc):
                yield Scale(asked)


class PoolPerformer:
    """Decides about pools and their bots. Each may be done twice: the log knows it."""

    def __init__(self, pools: Pools, handler: DecidesPools, bots: DecidesBots) -> None:
        self._pools = pools
        self._handler = handler
        self._bots = bots

    async def perform(self, step: Step) -> None:
        """Do it. Unavailable: it stays outstanding."""
        command_id = derived_id("pool", *key_of(step))
        match step:
            case Scale():
                await self._handler.handle(
                    step.command, _cause(step.command.name, command_id), command_id=command_id
                )
            case Change():
                await self._bots.handle(step.command, _cause(step.pool, command_id), command_id=command_id)
                self._pools.done(step)
            case _:
                assert_never(step)


def _cause(pool: str, command_id: str) -> Cause:
    return Cause(message_id=command_id, correlation_id=command_id, actor=f"pool:{pool}")
