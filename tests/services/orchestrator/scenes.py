"""A scene to look at: commits told to a board, bots that are heard, two clocks that stand still."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

from services.orchestrator.board import Board, BotChange, Change, TaskChange
from services.orchestrator.hosts import Hosts
from services.orchestrator.liveness import Liveness
from services.orchestrator.opinions import Opinions
from services.orchestrator.placement import Placement
from services.orchestrator.reactions import note_leases
from services.orchestrator.scene import Moment, Scene
from shared.contracts.config import Config
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import Heartbeat, HostReport, Running
from shared.contracts.orchestrator.protocol import Held as HeldWord
from shared.contracts.words import PARTITIONS, BotId, TaskId
from tests.services.orchestrator.builders import ECHO, came_up, commit, launched
from tests.support.scenario import NOON

ALL = frozenset(range(PARTITIONS))


class Stage:
    """Sets a scene, commit by commit. Time stands still until it is moved."""

    def __init__(self, owned: frozenset[int] = ALL) -> None:
        self.mono = 1000.0
        self.utc = NOON
        board = Board()
        placement = Placement(board, Opinions(), Random(1).random)
        board.own_partitions(owned)
        self.scene = Scene(board, Liveness(self.mono), Hosts(), placement)
        self.sequence = 0
        self.config = Config()

    @property
    def board(self) -> Board:
        return self.scene.board

    @property
    def liveness(self) -> Liveness:
        return self.scene.liveness

    @property
    def moment(self) -> Moment:
        return Moment(self.utc, self.mono, self.config)

    def later(self, seconds: float, *, listening: bool = True) -> None:
        """Time passes; we listened meanwhile, or not."""
        self.utc += timedelta(seconds=seconds)
        end = self.mono + seconds
        while listening and self.mono + 1 < end:
            self.mono += 1
            self.liveness.tick(self.mono, connected=True)
        self.mono = end
        self.liveness.tick(self.mono, connected=True)

    def tell(self, *facts: Any, at: datetime | None = None) -> Change:
        """A commit, as the log tells it."""
        self.sequence += 1
        recorded = commit(self.sequence, *facts, at=at or self.utc)
        followed = self.board.followed_task if recorded.aggregate == "task" else self.board.followed_bot
        change = followed(recorded)
        assert change is not None
        if isinstance(change, TaskChange):
            note_leases(self.liveness, change)
        return change

    def up(self, bot_id: str, spec: BotSpec = ECHO) -> BotChange:
        """A bot that is up and heard."""
        self.tell(launched(bot_id, spec))
        change = self.tell(came_up(bot_id))
        self.scene.queues.made(BotId(bot_id))
        self.beat(bot_id)
        assert isinstance(change, BotChange)
        return change

    def beat(self, bot_id: str, *tokens: int, generation: int = 1) -> Heartbeat:
        """It is heard, naming what it holds."""
        held = tuple(
            HeldWord(task_id=lease.task_id, token=token)
            if (lease := self.liveness.leases.get(token))
            else HeldWord(task_id=TaskId("unknown"), token=token)
            for token in tokens
        )
        heartbeat = Heartbeat(bot_id=BotId(bot_id), generation=generation, pid=7, host="local", held=held)
        self.liveness.hear(heartbeat, self.mono)
        return heartbeat

    def report(self, host: str = "local", engines: tuple[str, ...] = ("echo",), **running: int) -> None:
        """A host reports what runs on it."""
        entries = tuple(
            Running(bot_id=BotId(bot), generation=number, pid=1) for bot, number in running.items()
        )
        self.scene.hosts.hear(HostReport(host_id=host, running=entries, engines=engines), self.utc, self.mono)
