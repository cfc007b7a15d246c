"""The orchestrator in this process: the log in memory, bots and hosts as plain objects, real loops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from random import Random

from services.orchestrator.answers import Answers
from services.orchestrator.board import Board
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.facts import BOT_CODEC, TASK_CODEC
from services.orchestrator.hosts import Hosts
from services.orchestrator.liveness import Liveness
from services.orchestrator.opinions import Opinions
from services.orchestrator.performing import Performer
from services.orchestrator.placement import Placement
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.service import Orchestrator
from services.orchestrator.tables import ALIVE, SCHEMA, TOTALS, VERSION, Rows
from shared.contracts.config import Config
from shared.contracts.orchestrator.commands import BotCommand, LaunchBot, TaskCommand
from shared.contracts.orchestrator.facts import BotSpec, FileRef
from shared.contracts.orchestrator.protocol import (
    Assignment,
    Control,
    Heartbeat,
    HeartbeatAnswer,
    Held,
    HostAnswer,
    HostOrder,
    HostReport,
    RetireOrder,
    Running,
    StartOrder,
    StopOrder,
)
from shared.contracts.orchestrator.queries import GetBot, GetTask, TaskDoc
from shared.contracts.words import PARTITIONS, BotId, TaskId
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import Cause, Outcome
from shared.runtime import clock
from shared.runtime.handler import Effects, Handler
from shared.runtime.ids import new_id
from shared.runtime.living import Live
from shared.runtime.memory import MemoryStore
from shared.runtime.projection import Follower, MemoryView
from shared.runtime.views import Statement, Table

ALL = frozenset(range(PARTITIONS))
WITHIN_S = 10.0
CAUSE = Cause(message_id="m", correlation_id="chain", actor="key-1")


class MemoryFiles:
    """A FileStore in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def put(self, data: bytes) -> FileRef:
        digest = sha256(data).hexdigest()
        self.files[digest] = data
        return FileRef(sha256=digest, size_bytes=len(data))

    async def get(self, digest: str) -> bytes | None:
        return self.files.get(digest)


class Street:
    """The outside: what was sent to bots and hosts.

    A host that is `away` answers nobody; what is said to a bot that is `broken` fails as nobody expects.
    """

    def __init__(self) -> None:
        self.assignments: dict[BotId, list[Assignment]] = {}
        self.told: list[tuple[BotId, Control]] = []
        self.running: dict[BotId, int] = {}
        self.orders: list[HostOrder] = []
        self.queues: set[BotId] = set()
        self.away = False
        self.asked_in_vain = 0
        self.broken: set[BotId] = set()
        self.refusal: HostAnswer | None = None
        self.commands_waiting: set[TaskId] = set()

    async def dispatch(self, bot_id: BotId, assignment: Assignment) -> None:
        if self.away:
            raise Unavailable("the broker is away")
        if bot_id in self.broken:
            raise ZeroDivisionError("broken on purpose")
        sent = self.assignments.setdefault(bot_id, [])
        if all(each.token != assignment.token for each in sent):
            sent.append(assignment)

    async def tell(self, bot_id: BotId, control: Control) -> None:
        self.told.append((bot_id, control))

    async def order(self, host: str, order: HostOrder) -> HostAnswer:
        if self.away:
            self.asked_in_vain += 1
            raise Unavailable(f"nobody answers for {host}")
        self.orders.append(order)
        match order:
            case StartOrder() if self.refusal is not None:
                return self.refusal
            case StartOrder():
                self.running[order.bot_id] = order.generation
            case StopOrder() | RetireOrder():
                self.running.pop(order.bot_id, None)
        return HostAnswer(ok=True)

    async def make_queue(self, bot_id: BotId) -> None:
        self.queues.add(bot_id)

    async def remove_queue(self, bot_id: BotId) -> None:
        self.queues.discard(bot_id)

    async def command_waits(self, task_id: TaskId) -> bool:
        return task_id in self.commands_waiting


class Workshop:
    """Commands in, documents out."""

    def __init__(self, folder: Path, store: MemoryStore, instance: str = "one") -> None:
        self.street = Street()
        self.files = MemoryFiles()
        self.store = store
        self.config = Config()
        self.skew_s = 0.0
        self.owned = ALL
        self.connected = True
        board = Board()
        placement = Placement(board, Opinions(), Random(1).random)
        self.scene = Scene(board, Liveness(self.monotonic()), Hosts(), placement)
        changes = Rows()
        self.table = Table(
            folder / f"tasks-{instance}.sqlite",
            version=VERSION,
            schema=SCHEMA,
            aggregates=("task", "bot"),
            rows=lambda batch, read: [Statement(sql, values) for sql, values in changes(batch, read)],
            forget=changes.forget,
        )
        self.follower = Follower(
            "orchestrator", store, {"task": TASK_CODEC, "bot": BOT_CODEC}, ("task", "bot")
        )
        self.answers = Answers(
            self.scene, self.table, store, self.files, moment=self.moment, seen=self.follower.reached
        )
        self.orchestrator = Orchestrator(
            self.scene,
            self.answers,
            moment=self.moment,
            monotonic=lambda: self.moment().mono,
            owned=lambda: self.owned,
            connected=lambda: self.connected,
        )
        self.tasks = Handler(
            TASK,
            "task",
            TASK_CODEC,
            store,
            now=clock.now,
            new_id=new_id,
            effects=Effects(
                self.orchestrator.prepare,  # type: ignore[arg-type]
                self.orchestrator.released,
                self.orchestrator.committed_task,
            ),
        )
        self.bots = Handler(
            BOT,
            "bot",
            BOT_CODEC,
            store,
            now=clock.now,
            new_id=new_id,
            effects=Effects(committed=self.orchestrator.committed_bot),
        )
        self.performer = Performer(self.tasks, self.bots, self.street, self.scene, self.monotonic)
        self.follower.add(self.table)
        live = Live(self.table, ALIVE, TOTALS, self.orchestrator.begun)
        self.follower.add(MemoryView("board", ("task", "bot"), self.orchestrator.followed, live))
        self.beating: dict[BotId, set[int]] = {}

    def monotonic(self) -> float:
        return clock.monotonic() + self.skew_s

    def moment(self) -> Moment:
        return Moment(clock.now(), self.monotonic(), self.config)

    async def send(self, command: TaskCommand | BotCommand) -> Outcome:
        if isinstance(command, TaskCommand):
            return await self.tasks.handle(command, CAUSE)  # type: ignore[arg-type]
        return await self.bots.handle(command, CAUSE)  # type: ignore[arg-type]

    def beat(self, bot_id: str, *tokens: int, generation: int | None = None) -> HeartbeatAnswer | None:
        """A heartbeat, naming these attempts."""
        key = BotId(bot_id)
        held = tuple(
            Held(task_id=each.task_id, token=each.token)
            for each in self.street.assignments.get(key, [])
            if each.token in tokens
        )
        number = self.street.running.get(key, 1) if generation is None else generation
        return self.orchestrator.hear(
            Heartbeat(
                bot_id=key, generation=number, pid=9, host="local", held=held, rss_bytes=1000, uptime_s=3.0
            )
        )

    def report(self) -> None:
        """The host reports what runs."""
        running = tuple(Running(bot_id=bot, generation=n, pid=1) for bot, n in self.street.running.items())
        self.orchestrator.hear_host(HostReport(host_id="local", running=running, engines=("echo",)))

    async def until(self, check: Callable[[], bool | Awaitable[bool]]) -> None:
        """Bots in `beating` are heard and the host reports meanwhile."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                for bot_id, tokens in self.beating.items():
                    self.beat(bot_id, *tokens)
                self.report()
                result = check()
                if result if isinstance(result, bool) else await result:
                    return
                await asyncio.sleep(0.01)

    async def task(self, task_id: str) -> TaskDoc:
        return await self.answers.get_task(GetTask(task_id=TaskId(task_id)))

    async def is_in(self, task_id: str, state: str) -> bool:
        try:
            return (await self.task(task_id)).state == state
        except NotFound:
            return False

    async def assigned(self, bot_id: str, task_id: str) -> Assignment:
        """Wait until the bot has been sent the task."""
        found: list[Assignment] = []

        def look() -> bool:
            sent = self.street.assignments.get(BotId(bot_id), [])
            found[:] = [each for each in sent if each.task_id == task_id]
            return bool(found)

        await self.until(look)
        return found[-1]

    async def up(self, bot_id: str, spec: BotSpec | None = None) -> None:
        """Launch a bot and keep it beating."""
        await self.send(LaunchBot(bot_id=BotId(bot_id), spec=spec or BotSpec(engine="echo")))
        await self.until(lambda: BotId(bot_id) in self.street.running)
        self.beating[BotId(bot_id)] = set()

        async def idle() -> bool:
            return (await self.answers.get_bot(GetBot(bot_id=BotId(bot_id)))).state in ("idle", "busy")

        await self.until(idle)


@asynccontextmanager
async def workshop(
    folder: Path, store: MemoryStore | None = None, instance: str = "one"
) -> AsyncIterator[Workshop]:
    """Everything runs until the end of the block."""
    shop = Workshop(folder, store or MemoryStore(), instance)
    await shop.table.open(await shop.store.identity(), await shop.store.last_sequence())
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(shop.follower.run()),
            group.create_task(shop.table.run()),
            group.create_task(shop.orchestrator.run(shop.performer.perform)),
        ]
        await shop.follower.reached(await shop.store.last_sequence())
        try:
            yield shop
        finally:
            for task in running:
                task.cancel()
    await shop.table.close()
