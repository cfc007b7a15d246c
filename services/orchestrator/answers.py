"""What the orchestrator answers when it is asked: from memory if that is enough, else from log or tables."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import Final

import msgspec

from services.orchestrator.board import Change, TaskChange
from services.orchestrator.decider.task_state import Ended
from services.orchestrator.facts import TASK_CODEC, BotEvent, TaskEvent
from services.orchestrator.hosts import is_external
from services.orchestrator.joining import Joining
from services.orchestrator.projection import fold_bot, fold_tasks, timeline
from services.orchestrator.recent import Recent
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.tables import (
    bots_of,
    history_page,
    select_bot,
    select_cleared,
    select_history,
    select_tasks,
    select_tree,
    tasks_page,
    tree_of,
)
from services.orchestrator.why import is_open, why_ended, why_open
from shared.contracts.orchestrator.facts import FileRef, TaskAssigned
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
    HistoryEntry,
    ListBots,
    ListTasks,
    PutFile,
    TaskDoc,
    Timeline,
    Tree,
    Why,
)
from shared.contracts.words import INPUT_BYTES_MAX, BotId, Page, TaskId
from shared.kernel.errors import NotFound, Rejected
from shared.kernel.messages import Recorded
from shared.runtime.files import FileStore
from shared.runtime.handler import recorded
from shared.runtime.store import EventStore
from shared.runtime.views import Table

AWAIT_MAX_S: Final = 30.0
FILE_PIECE_BYTES: Final = 512 * 1024
BOTS_LIMIT_MAX: Final = 1_000


class Answers:
    """Documents for whoever asks; and wakes who waits for an end or for a bot."""

    def __init__(
        self,
        scene: Scene,
        table: Table,
        store: EventStore,
        files: FileStore,
        *,
        moment: Callable[[], Moment],
        seen: Callable[[int], Awaitable[None]],
    ) -> None:
        self._scene = scene
        self._table = table
        self._store = store
        self._files = files
        self._moment = moment
        self._seen = seen
        self.joining = Joining(scene.board, lambda task_id: self._task(task_id, 0))
        self._recent = Recent()
        self._bots: dict[BotId, BotDoc] = {}
        self._ends: defaultdict[TaskId, list[asyncio.Future[None]]] = defaultdict(list)
        self._bot_changes: list[asyncio.Future[None]] = []

    # What it learns.

    def take_task(self, commit: Recorded[TaskEvent]) -> None:
        """A task's commit, seen for the first time or again."""
        self._recent.add(commit)

    def take_bot(self, commit: Recorded[BotEvent]) -> None:
        """A bot's commit, seen for the first time or again."""
        bot_id = BotId(commit.aggregate_id)
        doc = fold_bot(self._bots.get(bot_id), commit)
        if doc is not None:
            self._bots[bot_id] = doc

    def forget_bot(self, bot_id: BotId) -> None:
        """The bot is cleared: from now on the table answers for it."""
        self._bots.pop(bot_id, None)

    def changed(self, change: Change) -> None:
        """Wake who waited for this."""
        self.joining.changed(change)
        if isinstance(change, TaskChange):
            if isinstance(change.after, Ended):
                _wake(self._ends.pop(change.task_id, []))
        else:
            waiting, self._bot_changes = self._bot_changes, []
            _wake(waiting)

    # Tasks.

    async def get_task(self, query: GetTask) -> TaskDoc:
        """One task, as new as the log has it."""
        return await self._task(query.task_id, query.at_least)

    async def await_task(self, query: AwaitTask) -> TaskDoc:
        """One task when it has ended, or as it is when the time is up."""
        doc = await self._task(query.task_id, query.at_least)
        if not is_open(doc):
            return doc
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._ends[query.task_id]
        waiting.append(ended)
        try:
            # It may have ended before we began to wait: what is known now decides whether to.
            known = self._known(query.task_id)
            if known is None or is_open(known):
                await asyncio.wait([ended], timeout=min(max(query.wait_s, 0.0), AWAIT_MAX_S))
        finally:
            if ended in waiting:
                waiting.remove(ended)
            if not waiting and self._ends.get(query.task_id) is waiting:
                del self._ends[query.task_id]
        return await self._task(query.task_id, 0)

    async def list_tasks(self, query: ListTasks) -> Page[TaskDoc]:
        """Tasks, newest first."""
        sql, values = select_tasks(query)
        await self._seen(query.at_least)
        return tasks_page([(row[0], row[1]) for row in await self._table.read(sql, values)], query.limit)

    async def get_timeline(self, query: GetTimeline) -> Timeline:
        """Every fact of a task."""
        return timeline(query.task_id, await self._past(query.task_id))

    async def get_tree(self, query: GetTree) -> Tree:
        """A task and all that descends from it."""
        await self._seen((await self._task(query.task_id, query.at_least)).version)
        found = await self._table.read(*select_tree(query.task_id))
        return tree_of(query.task_id, [(row[0], row[1]) for row in found])

    async def get_why(self, query: GetWhy) -> Why:
        """What a task waits for."""
        past = await self._past(query.task_id)
        doc = fold_tasks(past)
        assert doc is not None, past
        entry = self._scene.board.tasks.get(query.task_id)
        why = None if entry is None else why_open(self._scene, doc, entry, self._moment())
        decisions = [
            fact.decision for commit in past for fact in commit.facts if isinstance(fact, TaskAssigned)
        ]
        decision = decisions[-1] if decisions else None
        return msgspec.structs.replace(why or why_ended(doc), decision=decision)

    # Bots.

    async def get_bot(self, query: GetBot) -> BotDoc:
        """One bot; waits until it is up or cannot be, or until it is gone, if asked to."""
        await self._seen(query.at_least)
        wait_s = max(query.wait_up_s, query.wait_gone_s)
        settled = _is_up_or_cannot if query.wait_up_s >= query.wait_gone_s else _is_gone
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(wait_s, 0.0), AWAIT_MAX_S)):
                # A bot that memory does not hold is settled: nothing changes while the table is asked.
                while wait_s > 0 and not settled(await self._bot(query.bot_id)):
                    await self._next_bot_change()
        return await self._bot(query.bot_id)

    async def list_bots(self, query: ListBots) -> Page[BotDoc]:
        """Bots by name."""
        await self._seen(query.at_least)
        if not 1 <= query.limit <= BOTS_LIMIT_MAX:
            raise Rejected("bad_limit", f"`limit` must be 1 to {BOTS_LIMIT_MAX}")
        known = list(self._bots.values())  # one that is cleared while the table is asked may be in neither
        cleared = bots_of(await self._table.read(*select_cleared(query))) if query.retired else []
        found = {
            doc.name: doc
            for doc in (*known, *cleared, *self._bots.values())
            if (query.retired or doc.state != "retired")
            and (query.pool is None or doc.spec.pool == query.pool)
            and (query.cursor is None or doc.name > query.cursor)
        }
        some = sorted(found)[: query.limit]
        return Page(
            items=[self._present(found[name]) for name in some],
            next_cursor=some[-1] if len(found) > len(some) else None,
        )

    async def get_history(self, query: GetBotHistory) -> Page[HistoryEntry]:
        """What a bot did, newest first."""
        await self._bot(query.bot_id)
        sql, values = select_history(query)
        return history_page([(row[0], row[1]) for row in await self._table.read(sql, values)], query.limit)

    async def get_counts(self, _query: GetCounts) -> Counts:
        """Tasks and bots by state."""
        board = self._scene.board
        bots = Counter(self._present(doc).state for doc in self._bots.values())
        bots["retired"] += board.cleared
        return Counts(
            tasks={state: n for state, n in board.counts.items() if n},
            bots={state: n for state, n in bots.items() if n},
        )

    # Files.

    async def get_file(self, query: GetFile) -> bytes:
        """A piece of a stored file."""
        data = await self._files.get(query.sha256)
        if data is None:
            raise NotFound("file_not_found", f"there is no file {query.sha256}")
        return data[query.offset : query.offset + FILE_PIECE_BYTES]

    async def put_file(self, query: PutFile) -> FileRef:
        """Keep a task's input."""
        if len(query.data) > INPUT_BYTES_MAX:
            raise Rejected("file_too_large", f"{len(query.data)} bytes; at most {INPUT_BYTES_MAX} are kept")
        return await self._files.put(query.data)

    # How.

    def _known(self, task_id: TaskId) -> TaskDoc | None:
        return fold_tasks(self._recent.past(task_id))

    async def _task(self, task_id: TaskId, at_least: int) -> TaskDoc:
        doc = self._known(task_id)
        if doc is None or at_least > max(doc.version, self._scene.board.reached):
            doc = fold_tasks(await self._read(task_id))  # the log itself is never behind
        if doc is None:
            raise NotFound("task_not_found", f"there is no task {task_id}")
        return doc

    async def _past(self, task_id: TaskId) -> list[Recorded[TaskEvent]]:
        past = list(self._recent.past(task_id)) or await self._read(task_id)
        if not past:
            raise NotFound("task_not_found", f"there is no task {task_id}")
        return past

    async def _read(self, task_id: TaskId) -> list[Recorded[TaskEvent]]:
        return [
            recorded(
                TASK_CODEC.decode_all(stored.commit.facts),
                stored.commit,
                stored.aggregate,
                stored.aggregate_id,
                stored.sequence,
            )
            for stored in await self._store.read("task", task_id)
        ]

    async def _bot(self, bot_id: BotId) -> BotDoc:
        doc = self._bots.get(bot_id)
        if doc is None:
            cleared = bots_of(await self._table.read(*select_bot(bot_id)))
            doc = self._bots.get(bot_id) or (cleared[0] if cleared else None)
        if doc is None:
            near = get_close_matches(bot_id, self._bots, n=3)
            hint = f"; there is {', '.join(near)}" if near else ""
            raise NotFound("bot_not_found", f"there is no bot {bot_id}{hint}")
        return self._present(doc)

    def _present(self, doc: BotDoc) -> BotDoc:
        """The document with what only heartbeats and the board tell."""
        if doc.state == "retired":
            return doc
        board, moment = self._scene.board, self._moment()
        holds = board.held.get(doc.name, {})
        beat = self._scene.liveness.beat(doc.name)
        doc = msgspec.structs.replace(
            doc,
            state="busy" if doc.state == "idle" and holds else doc.state,
            running=tuple(holds),
            free_slots=max(0, board.free(doc.name)),
        )
        if (
            doc.state == "starting"
            and not is_external(doc.spec)
            and doc.spec.host not in self._scene.hosts.reports
        ):
            heard = ", ".join(sorted(self._scene.hosts.reports)) or "none"
            return msgspec.structs.replace(
                doc,
                reason=f"no bot host {doc.spec.host} is heard (heard: {heard}): it starts as soon as one is",
            )
        if beat is None or doc.state in ("stopped", "broken", "restarting"):
            return doc
        return msgspec.structs.replace(
            doc,
            pid=beat.heartbeat.pid,
            host=beat.heartbeat.host,
            uptime_s=beat.heartbeat.uptime_s,
            rss_bytes=beat.heartbeat.rss_bytes,
            cpu_s=beat.heartbeat.cpu_s,
            last_heard_s=round(max(0.0, moment.mono - beat.at), 3),
        )

    async def _next_bot_change(self) -> None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bot_changes.append(changed)
        try:
            await changed
        finally:
            if changed in self._bot_changes:
                self._bot_changes.remove(changed)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(None)


def _is_up_or_cannot(doc: BotDoc) -> bool:
    return doc.state not in ("starting", "restarting")


def _is_gone(doc: BotDoc) -> bool:
    return doc.state in ("stopped", "retired", "broken")
