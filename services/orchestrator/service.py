"""The orchestrator at work: decides, hears bots and hosts, and does what is outstanding."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, assert_never

from services.orchestrator import hosting, reactions
from services.orchestrator.answers import Answers
from services.orchestrator.board import BotChange, Change, TaskChange
from services.orchestrator.classify import classify
from services.orchestrator.commands import AssignTask, PlaceTask, TaskWish
from services.orchestrator.decider.bot_state import NoBot, Retired, Starting
from services.orchestrator.decider.task_state import Task, Unknown, Waiting
from services.orchestrator.dependencies import news_of_kin
from services.orchestrator.facts import BotEvent, TaskEvent
from services.orchestrator.placement import Asked
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.spawning import spawned
from services.orchestrator.steps import Recall, Step, key_of
from services.orchestrator.tables import told
from services.orchestrator.waiting import Wants, wants_of
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.commands import SpawnTask, SubmitTask
from shared.contracts.orchestrator.protocol import Heartbeat, HeartbeatAnswer, HostReport
from shared.contracts.words import BotId, Priority
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Recorded
from shared.runtime.connection import BrokerRefused

TICK_S: Final = 0.25
"""How often time is looked at: a bot is declared silent, a retry given away, at most so much late."""

TROUBLES_MAX: Final = 1_024  # remembered, so that each is written to the log once

_log = logging.getLogger(__name__)


class Orchestrator:
    """Keeps the scene, and begins each step once at a time.

    What a commit makes outstanding is done at once, what time makes outstanding within TICK_S, and everything
    is looked at again by `todo`: so a step that failed, or whose process died, is only late.
    """

    def __init__(
        self,
        scene: Scene,
        answers: Answers,
        *,
        moment: Callable[[], Moment],
        monotonic: Callable[[], float],
        owned: Callable[[], frozenset[int]],
        connected: Callable[[], bool],
    ) -> None:
        self._scene = scene
        self._answers = answers
        self._moment = moment
        self._monotonic = monotonic
        self._owned = owned
        self._connected = connected
        self._news: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._under_way: set[tuple[str, ...]] = set()
        self._troubles: dict[tuple[str, ...], str] = {}
        self._perform: Callable[[Step], Awaitable[None]]
        self._group: asyncio.TaskGroup

    # What the handlers ask and tell.

    def prepare(self, task: Task, command: TaskWish) -> TaskWish:
        """Give a new task a bot at once, if one is free and nobody waits for it."""
        if isinstance(command, SpawnTask):
            command = spawned(task, command, self._scene.board, self._moment().config)
        if not (isinstance(command, SubmitTask) and isinstance(task, Unknown)) or command.after:
            return command
        kind = command.type or classify(command.content)[0]
        wants = Wants(kind, command.engine, command.bot, command.pool)
        asked = Asked(
            command.task_id,
            wants,
            avoid=command.spawned_by,
            critical=command.priority is Priority.P0,
            last_try=command.retry.attempts_max <= 1,
        )
        choice = self._scene.placement.at_once(asked, self._is_ready, self._moment().config.explore_share)
        if choice is None:
            return command
        return PlaceTask(
            task_id=command.task_id, submit=command, bot_id=choice.bot_id, decision=choice.decision
        )

    def released(self, command: TaskWish) -> None:
        """What was kept for a command that became nothing is free again."""
        if isinstance(command, PlaceTask | AssignTask):
            self._scene.board.release(command.task_id)

    def committed_task(self, commit: Recorded[TaskEvent]) -> None:
        """An own commit, ahead of the log."""
        self._answers.take_task(commit)
        self._changed(self._scene.board.own_task(commit))

    def committed_bot(self, commit: Recorded[BotEvent]) -> None:
        """An own commit, ahead of the log."""
        self._answers.take_bot(commit)
        self._changed(self._scene.board.own_bot(commit))

    def followed(self, commit: Recorded[Any]) -> None:
        """A commit as the log tells it."""
        if commit.aggregate == "task":
            self._answers.take_task(commit)
            self._changed(self._scene.board.followed_task(commit))
        else:
            self._answers.take_bot(commit)
            self._changed(self._scene.board.followed_bot(commit))
            self._let_go(BotId(commit.aggregate_id))

    def begun(self, reached: int, rows: Iterable[tuple[Any, ...]]) -> None:
        """The board holds all that is alive at this sequence; the rows tell what else it is to know."""
        self._scene.board.begin(reached, told(rows))

    # What bots and hosts tell.

    def hear(self, heartbeat: Heartbeat) -> HeartbeatAnswer | None:
        """A heartbeat, and what to answer; None if another process answers for this bot."""
        board, bot_id = self._scene.board, heartbeat.bot_id
        bot = board.bot(bot_id)
        its_own = not isinstance(bot, NoBot | Retired) and reactions.is_its_process(
            bot.spec, bot.generation, heartbeat
        )
        if its_own:
            self._scene.liveness.hear(heartbeat, self._monotonic())
        entry = board.bots.get(bot_id)
        if (partition_of(bot_id) if entry is None else entry.partition) not in self._owned():
            return None
        if its_own:
            self.begin(hosting.heard(board, heartbeat))
        return reactions.answer(board, heartbeat)

    def hear_host(self, report: HostReport) -> None:
        """What runs on a host; whether that is as it should be is looked at each TICK_S."""
        moment = self._moment()
        self._scene.hosts.hear(report, moment.utc, moment.mono)

    # What is done.

    async def run(self, perform: Callable[[Step], Awaitable[None]]) -> None:
        """Do what becomes outstanding, for ever."""
        self._perform = perform
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._react())
            self._group.create_task(self._tick())

    async def on_reconnect(self) -> None:
        """What was said while we were away we did not hear: every count begins again."""
        self._begin_anew(self._moment())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the steps."""
        self._group.create_task(work)

    async def todo(self, owned: frozenset[int]) -> None:
        """Everything outstanding in these partitions."""
        moment = self._moment()
        self._look_at_ownership(owned, moment)
        if owned:
            self.begin(reactions.todo(self._scene, moment))

    def begin(self, steps: Iterable[Step]) -> None:
        """Begin what is not under way."""
        for step in steps:
            key = key_of(step)
            if key not in self._under_way:
                self._under_way.add(key)
                self._group.create_task(self._do(step, key))

    async def _do(self, step: Step, key: tuple[str, ...]) -> None:
        try:
            await self._perform(step)
        except (Unavailable, BrokerRefused) as error:
            if self._is_news(key, error):
                _log.info("%s stays outstanding: %s", " ".join(key), error)
        except Exception as error:  # noqa: BLE001 - one step's unexpected failure must not end the others
            if self._is_news(key, error):
                _log.exception("%s failed", " ".join(key))
        else:
            self._troubles.pop(key, None)
            if isinstance(step, Recall):
                self._wake.set()  # what it has learned may be what was waited for
        finally:
            self._under_way.discard(key)

    def _is_news(self, key: tuple[str, ...], error: Exception) -> bool:
        """Whether a step has a trouble it did not have the last time: it is tried four times a second."""
        told, text = self._troubles.get(key), repr(error)
        if len(self._troubles) >= TROUBLES_MAX:
            self._troubles.clear()
        self._troubles[key] = text
        return told != text

    async def _react(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            moment = self._moment()
            self._look_at_ownership(self._owned(), moment)
            steps: list[Step] = []
            bots: set[BotId] = set()
            while self._news:
                change = self._news.popleft()
                steps += reactions.after(self._scene, change, moment)
                bots |= self._may_take(change)
            steps += news_of_kin(self._scene, moment)
            self.begin(steps)
            self.begin(reactions.fill(self._scene, bots, moment))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            moment = self._moment()
            self._scene.liveness.tick(moment.mono, connected=self._connected())
            self._look_at_ownership(self._owned(), moment)
            if self._scene.board.owned:
                self.begin(reactions.todo(self._scene, moment))

    def _let_go(self, bot_id: BotId) -> None:
        """Forget a bot that has left the board: it is cleared."""
        if bot_id not in self._scene.board.bots:
            self._answers.forget_bot(bot_id)
            self._scene.queues.forget(bot_id)

    def _may_take(self, change: Change) -> set[BotId]:
        """The bots that a change may let have something."""
        if (
            isinstance(change, TaskChange)
            and isinstance(change.after, Waiting)
            and change.after.retry_at is None
        ):
            return set(self._scene.placement.capable(wants_of(change.after.order)).bots)
        bot_id = reactions.freed(change)
        return set() if bot_id is None else {bot_id}

    def _changed(self, change: Change | None) -> None:
        if change is None:
            return
        match change:
            case TaskChange():
                reactions.note_leases(self._scene.liveness, change)
            case BotChange():
                if isinstance(change.after, Starting | Retired):
                    self._scene.liveness.forget(change.bot_id)
                    self._scene.hosts.forget(change.bot_id, change.after.generation)
            case _:
                assert_never(change)
        self._answers.changed(change)
        if self._scene.board.owned:
            self._news.append(change)
            self._wake.set()

    def _look_at_ownership(self, owned: frozenset[int], moment: Moment) -> None:
        board = self._scene.board
        if owned == board.owned:
            return
        if owned - board.owned:
            self._begin_anew(moment)
        board.own_partitions(owned)

    def _begin_anew(self, moment: Moment) -> None:
        self._scene.liveness.restart(moment.mono)
        self._scene.queues.restart()

    def _is_ready(self, bot_id: BotId) -> bool:
        return self._scene.liveness.is_ready(bot_id, self._monotonic())
