"""A hive behind the web application: real deciders over the memory store, the rest as simple as it can be."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

import httpx
import msgspec

from services.gateway import api, dlq
from services.gateway.access import Access, hash_of
from services.gateway.backpressure import Load, PressedSend
from services.gateway.decider import KEY
from services.gateway.facts import KEY_CODEC
from services.gateway.limits import Limits
from services.gateway.login import login_routes
from services.gateway.pages import open_pages
from services.gateway.projection import Keys
from services.gateway.readiness import Ready
from services.gateway.service import Gateway
from services.gateway.status import status_route
from services.messenger.api import ROUTES as MESSENGER_ROUTES
from services.messenger.api import SOCKETS as MESSENGER_SOCKETS
from services.orchestrator.api import ROUTES
from services.orchestrator.api import SOCKETS as ORCHESTRATOR_SOCKETS
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.decider.pool import POOL
from services.orchestrator.facts import BOT_CODEC, POOL_CODEC, TASK_CODEC
from services.orchestrator.hosts import Hosts
from services.orchestrator.projection import fold_bot, fold_tasks, timeline
from services.orchestrator.tables import tree_of
from services.scheduler.api import ROUTES as SCHEDULER_ROUTES
from services.scheduler.decider import PERFORMANCE
from services.scheduler.decider.schedule import SCHEDULE
from services.scheduler.facts import PERFORMANCE_CODEC
from services.scheduler.schedule_facts import SCHEDULE_CODEC
from shared.contracts.config import Config
from shared.contracts.dead import DeadLetter, DropDead, GetDead, ListDead, ReplayDead
from shared.contracts.gateway import CreateKey, GetKey, ListKeys, RevokeKey
from shared.contracts.messenger.commands import MarkRead, SendBroadcast, SendMessage
from shared.contracts.orchestrator.facts import FileRef
from shared.contracts.orchestrator.queries import (
    AwaitTask,
    BotDoc,
    Counts,
    GetBot,
    GetBotHistory,
    GetCounts,
    GetFile,
    GetTask,
    GetTimeline,
    GetTree,
    GetWhy,
    ListBots,
    ListHosts,
    ListTasks,
    PutFile,
    TaskDoc,
    Why,
)
from shared.contracts.words import KeyId, Page, TaskId
from shared.kernel.codec import Codec, encode
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import Cause, Command, Committed, Failed, Outcome, Query, Recorded
from shared.runtime.commands import Sending
from shared.runtime.dead import page
from shared.runtime.doors import Doors
from shared.runtime.handler import Effects, Handler, recorded
from shared.runtime.http import Front, application
from shared.runtime.ids import new_id
from shared.runtime.live import Hear
from shared.runtime.memory import MemoryStore
from shared.runtime.sockets import Sockets
from shared.runtime.whereabouts import Dead, Nowhere, OnItsWay, Place
from tests.support.messenger import FakeMessenger
from tests.support.pools import PoolsQuery, ToldPools
from tests.support.scenario import NOON
from tests.support.scheduler import SchedulerQuery, ToldScheduler
from tests.support.schedules import SchedulesQuery, ToldSchedules

ADMIN = "hive_admin-secret-of-the-tests"
FILE_PIECE_BYTES = 512 * 1024


class ApiHive:
    """What the routers see. A test may change it: the broker goes away, an owner does not decide."""

    def __init__(self) -> None:
        self.now = NOON
        self.ticks = 0.0
        self.config = Config()
        self.store = MemoryStore()
        self.keys = Keys()
        self.gateway = Gateway(self.keys, now=lambda: self.now, seen=self._seen)
        self.broker_away = False
        self.silent: set[str] = set()
        self.undecided = False
        self.failing = False
        self.queued: list[Command] = []
        self.sent: list[Command] = []
        self.letters: list[DeadLetter] = []
        self.files: dict[str, bytes] = {}
        self.loads: dict[str, Load] = {}
        self.hosts = Hosts()
        self.used: list[KeyId] = []
        self.denied: list[tuple[str, str]] = []
        self.live = FakeLive()
        self.messenger = FakeMessenger(lambda: self.now)
        self.scheduler = ToldScheduler()
        self.schedules = ToldSchedules(lambda: self.now)
        self.pools = ToldPools(lambda: self.now)
        self.seen_until = 10**9
        self._handlers: dict[str, Handler[Any, Any, Any]] = {
            "task": self._handler(TASK, "task", TASK_CODEC),
            "bot": self._handler(BOT, "bot", BOT_CODEC),
            "pool": self._handler(POOL, "pool", POOL_CODEC, self.pools.heard),
            "key": self._handler(KEY, "key", KEY_CODEC, self.keys.apply),
            "performance": self._handler(PERFORMANCE, "performance", PERFORMANCE_CODEC),
            "schedule": self._handler(SCHEDULE, "schedule", SCHEDULE_CODEC, self.schedules.heard),
        }
        self.doors = Doors(
            send=PressedSend(self, self.loads),
            ask=self.ask,
            whereabouts=self.whereabouts,
            live=self.live,
            config=lambda: self.config,
            services=("orchestrator", "messenger", "gateway"),
            now=lambda: self.now,
        )
        access = Access(
            self.keys,
            Limits(lambda: self.ticks),
            now=lambda: self.now,
            used=self.used.append,
            denied=lambda source, code: self.denied.append((source, code)),
        )
        ready = Ready(
            self.ask,
            self.doors.services,
            connected=lambda: not self.broker_away,
            monotonic=lambda: self.ticks,
        )
        self.app = application(
            [
                *api.ROUTES,
                *dlq.ROUTES,
                status_route(self.loads, lambda: "1.2.3"),
                *ROUTES,
                *MESSENGER_ROUTES,
                *SCHEDULER_ROUTES,
            ],
            doors=self.doors,
            guard=access.guard,
            open_routes=[
                *open_pages(ready, "1.2.3"),
                *login_routes(self.keys, self, now=lambda: self.now, seen=self._seen),
            ],
        )
        self.sockets = Sockets(
            [*ORCHESTRATOR_SOCKETS, *MESSENGER_SOCKETS], doors=self.doors, knock=access.knock
        )
        self.front = Front(self.app, self.sockets)

    def client(self, secret: str | None = ADMIN, **headers: str) -> httpx.AsyncClient:
        """A caller with this key."""
        told = headers if secret is None else {"Authorization": f"Bearer {secret}", **headers}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.front), base_url="http://hive.test", headers=told
        )

    async def key(
        self,
        secret: str = ADMIN,
        *,
        scopes: tuple[str, ...] = ("admin",),
        rate: int | None = None,
        expires_in: timedelta | None = None,
        kind: str = "api",
        name: str = "test",
    ) -> KeyId:
        """A key with this secret."""
        key_id = KeyId(new_id())
        await self(
            CreateKey(
                key_id=key_id,
                name=name,
                kind=kind,
                prefix=secret[:9],
                secret_hash=hash_of(secret),
                scopes=scopes,
                rate_per_minute=rate,
                expires_at=None if expires_in is None else self.now + expires_in,
            ),
            actor="test",
        )
        return key_id

    async def revoke(self, key_id: KeyId) -> None:
        """Nobody gets in with it any more."""
        await self(RevokeKey(key_id=key_id), actor="test")

    async def decide(self, command: Any) -> Outcome:
        """What the owner itself would do: for commands that nobody may send."""
        if isinstance(command, SendMessage | SendBroadcast | MarkRead):
            return await self.messenger.decide(command, new_id())
        return await self._handlers[command.aggregate].handle(command, CAUSE)

    async def catch_up(self) -> None:
        """The owner decides what waits."""
        self.undecided = False
        waiting, self.queued = self.queued, []
        for command in waiting:
            await self.decide(command)

    # Send.

    async def __call__(
        self,
        command: Command,
        *,
        actor: str,
        command_id: str | None = None,
        chain: str | None = None,
        wait_s: float = 2.0,
    ) -> Outcome | None:
        if self.broker_away:
            raise Unavailable("the broker is away")
        self.sent.append(command)
        if self.undecided:
            self.queued.append(command)
            return None
        if self.failing:
            return Failed(command_id="c", dead_letter="letter-1", detail="boom")
        message_id = command_id or new_id()
        if isinstance(command, SendMessage | SendBroadcast | MarkRead):
            return await self.messenger.decide(command, message_id)
        cause = Cause(message_id=message_id, correlation_id=chain or message_id, actor=actor)
        return await self._handlers[command.aggregate].handle(command, cause, command_id=message_id)

    async def many(
        self, sendings: Sequence[Sending], *, wait_s: float = 2.0
    ) -> list[Outcome | Unavailable | None]:
        outcomes: list[Outcome | Unavailable | None] = []
        for sending in sendings:
            try:
                outcomes.append(await self(sending.command, actor=sending.actor, wait_s=wait_s))
            except Unavailable as away:
                outcomes.append(away)
        return outcomes

    # Ask.

    async def ask(self, query: Query[Any], *, service: str | None = None, timeout_s: float = 5.0) -> Any:
        if self.broker_away:
            raise Unavailable("the broker is away")
        if getattr(query, "at_least", 0) > self.seen_until:
            raise Behind(f"the view is at {self.seen_until}")
        # What comes back has been on the wire.
        if service in self.silent:
            raise Unavailable(f"{service} does not answer")
        answer = await self._answer(query, service)
        kind = type(query).answer
        return answer if kind is bytes else msgspec.json.decode(msgspec.json.encode(answer), type=kind)

    async def _answer(self, query: Query[Any], service: str | None) -> Any:
        match query:
            case GetTask() | AwaitTask():
                return await self.task(query.task_id)
            case ListTasks():
                return await self._tasks(query)
            case GetTimeline():
                await self.task(query.task_id)
                return timeline(query.task_id, await self._past("task", query.task_id))
            case GetTree():
                root = await self.task(query.task_id)
                found = [await self.task(key) for key in self._ids("task")]
                below = [(1, encode(doc)) for doc in found if doc.parent == root.id]
                return tree_of(query.task_id, [(0, encode(root)), *below])
            case GetWhy():
                task = await self.task(query.task_id)
                return Why(id=task.id, state=task.state, explanation="no bot is there", waits_for="a_bot")
            case GetBot():
                return await self.bot(query.bot_id)
            case ListBots():
                return Page(items=[await self.bot(key) for key in self._ids("bot")])
            case GetBotHistory():
                await self.bot(query.bot_id)
                return Page(items=[])
            case GetCounts():
                return Counts(tasks={"queued": len(self._ids("task"))}, bots={})
            case PutFile():
                return self._put(query.data)
            case GetFile():
                return self._get(query)
            case ListHosts():
                return self.hosts.told(self.ticks)
            case ListKeys():
                return await self.gateway.list_keys(query)
            case GetKey():
                return await self.gateway.get_key(query)
            case ListDead():
                return page((letter for letter in self.letters if letter.service == service), query)
            case GetDead():
                return self._letter(query.id)
            case ReplayDead():
                self._mark(query.id, "replayed")
                return Committed(command_id="c", sequence=7)
            case DropDead():
                return self._mark(query.id, "dropped")
            case _ if isinstance(query, PoolsQuery):
                return await self.pools.answer(query)
            case _ if isinstance(query, SchedulerQuery):
                return await self.scheduler.answer(query)
            case _ if isinstance(query, SchedulesQuery):
                return await self.schedules.answer(query)
            case _:
                return await self.messenger.answer(query)

    async def whereabouts(self, service: str, aggregate: str, aggregate_id: str) -> Place:
        if any(command.key == aggregate_id for command in self.queued):
            return OnItsWay()
        if await self.store.version(aggregate, aggregate_id):
            return OnItsWay()
        for letter in self.letters:
            if letter.service == service and letter.subject.endswith(f".{aggregate_id}"):
                return Dead(letter.id, letter.reason)
        return Nowhere()

    async def task(self, task_id: str) -> TaskDoc:
        past = await self._past("task", task_id)
        doc = fold_tasks(past)
        if doc is None:
            raise NotFound("task_not_found", f"there is no task {task_id}")
        return doc

    async def bot(self, bot_id: str) -> BotDoc:
        doc: BotDoc | None = None
        for commit in await self._past("bot", bot_id):
            doc = fold_bot(doc, commit)
        if doc is None:
            raise NotFound("bot_not_found", f"there is no bot {bot_id}")
        return doc

    async def _tasks(self, query: ListTasks) -> Page[TaskDoc]:
        docs = [await self.task(key) for key in reversed(self._ids("task"))]
        wanted = [doc for doc in docs if query.state in {None, doc.state}]
        start = int(query.cursor or 0)
        end = start + query.limit
        return Page(items=wanted[start:end], next_cursor=str(end) if end < len(wanted) else None)

    async def _past(self, aggregate: str, key: str) -> list[Recorded[Any]]:
        codec: Codec[Any] = TASK_CODEC if aggregate == "task" else BOT_CODEC
        return [
            recorded(codec.decode_all(each.commit.facts), each.commit, aggregate, key, each.sequence)
            for each in await self.store.read(aggregate, key)
        ]

    def _ids(self, aggregate: str) -> list[str]:
        return list(
            dict.fromkeys(each.aggregate_id for each in self.store._log if each.aggregate == aggregate)
        )

    def _put(self, data: bytes) -> FileRef:
        name = hashlib.sha256(data).hexdigest()
        self.files[name] = data
        return FileRef(sha256=name, size_bytes=len(data))

    def _get(self, query: GetFile) -> bytes:
        if query.sha256 not in self.files:
            raise NotFound("file_not_found", "there is no such file")
        return self.files[query.sha256][query.offset : query.offset + FILE_PIECE_BYTES]

    def _letter(self, letter_id: str) -> DeadLetter:
        for letter in self.letters:
            if letter.id == letter_id:
                return letter
        raise NotFound("dead_letter_not_found", f"no dead letter {letter_id}")

    def _mark(self, letter_id: str, state: str) -> DeadLetter:
        letter = self._letter(letter_id)
        marked = msgspec.structs.replace(letter, state=state)
        self.letters[self.letters.index(letter)] = marked
        return marked

    async def _seen(self, sequence: int) -> None:
        if sequence > self.seen_until:
            raise Behind(f"the view is at {self.seen_until}")

    def _handler(
        self,
        decider: Any,
        aggregate: str,
        codec: Codec[Any],
        committed: Callable[[Recorded[Any]], None] | None = None,
    ) -> Handler[Any, Any, Any]:
        return Handler(
            decider,
            aggregate,
            codec,
            self.store,
            now=lambda: self.now,
            new_id=new_id,
            effects=Effects(committed=committed),
        )


class FakeLive:
    """Words of live output that were said, told to who follows."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self.followed_after: list[int] = []
        self.followers = 0

    async def follow(self, task_id: TaskId, after: int, hear: Hear) -> NoReturn:
        self.followed_after.append(after)
        for word in self.words:
            if getattr(word, "sequence", after + 1) > after:
                await hear(word)
        self.followers += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.followers -= 1
        raise AssertionError

    async def last(self, task_id: TaskId) -> int:
        return max((getattr(word, "sequence", 0) for word in self.words), default=0)


CAUSE = Cause(message_id="m", correlation_id="m", actor="test")


def letter(
    letter_id: str, *, key: str = "t1", service: str = "orchestrator", at: datetime = NOON
) -> DeadLetter:
    """A dead letter about an aggregate."""
    return DeadLetter(
        id=letter_id,
        service=service,
        subject=f"cmd.{service}.3.gateway.{key}",
        reason="boom",
        attempts=5,
        at=at,
        headers={},
        body="{}",
    )
