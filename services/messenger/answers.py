"""What the messenger answers when it is asked: single messages from the log, lists from the table."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.messenger.facts import MESSAGE_CODEC, MessageEvent
from services.messenger.projection import fold_message, fold_messages
from services.messenger.scene import Moment, Scene
from services.messenger.tables import (
    SELECT_BROADCAST,
    SELECT_ONE,
    SELECT_SPREAD,
    SELECT_STATES,
    SELECT_UNREAD,
    SELECT_WAITING,
    doc_of,
    page_of,
    page_of_docs,
    pair_of,
    select_after,
    select_conversation,
    select_inbox,
    select_messages,
    summary_of,
)
from shared.contracts.messenger.facts import MessageSent
from shared.contracts.messenger.queries import (
    AwaitConversation,
    DeliverySummary,
    GetBroadcast,
    GetConversation,
    GetInbox,
    GetMessage,
    GetMessagingStatus,
    Inbox,
    ListMessages,
    MessageDoc,
    MessagingStatus,
)
from shared.contracts.words import Page
from shared.kernel.errors import NotFound
from shared.kernel.messages import Recorded
from shared.runtime.handler import recorded
from shared.runtime.store import EventStore
from shared.runtime.views import Table

AWAIT_MAX_S: Final = 30.0


class _Waiting:
    """Somebody waits for what two parties say next: what they said since, and a word that there is some."""

    def __init__(self) -> None:
        self.docs: list[MessageDoc] = []
        self.said = asyncio.Event()


class Answers:
    """Documents for whoever asks; and wakes who waits in a conversation."""

    def __init__(
        self,
        scene: Scene,
        table: Table,
        store: EventStore,
        *,
        moment: Callable[[], Moment],
        seen: Callable[[int], Awaitable[None]],
    ) -> None:
        self._scene = scene
        self._table = table
        self._store = store
        self._moment = moment
        self._seen = seen
        self._waiting: defaultdict[str, set[_Waiting]] = defaultdict(set)

    def heard(self, commit: Recorded[MessageEvent]) -> None:
        """A message's commit: wake who waits for one between these two."""
        first = commit.facts[0]
        if not self._waiting or not isinstance(first, MessageSent):
            return
        waiting = self._waiting.get(pair_of(first.sender, first.recipient))
        doc = fold_message(None, commit) if waiting else None
        for each in waiting or ():
            if doc is not None:
                each.docs.append(doc)
                each.said.set()

    async def get_message(self, query: GetMessage) -> MessageDoc:
        """One message: the log itself is never behind."""
        past = [
            recorded(
                MESSAGE_CODEC.decode_all(stored.commit.facts),
                stored.commit,
                stored.aggregate,
                stored.aggregate_id,
                stored.sequence,
            )
            for stored in await self._store.read("message", query.message_id)
        ]
        doc = fold_messages(past)
        if doc is None:
            raise NotFound("message_not_found", f"there is no message {query.message_id}")
        return doc

    async def list_messages(self, query: ListMessages) -> Page[MessageDoc]:
        """Messages, newest first."""
        return await self._page(select_messages(query), query.limit, query.at_least)

    async def get_conversation(self, query: GetConversation) -> Page[MessageDoc]:
        """What two parties said to each other, newest first."""
        return await self._page(select_conversation(query), query.limit, query.at_least)

    async def get_inbox(self, query: GetInbox) -> Inbox:
        """Messages to one party, newest first, and how many are unread."""
        page = await self._page(select_inbox(query), query.limit, query.at_least)
        states = dict(await self._table.read(SELECT_UNREAD, (query.party,)))
        return Inbox(
            items=page.items,
            unread=sum(states.values()),
            pending=states.get("pending", 0),
            next_cursor=page.next_cursor,
        )

    async def await_conversation(self, query: AwaitConversation) -> Page[MessageDoc]:
        """What two parties said after a sequence; waits for something to be there."""
        sql, values = select_after(query)
        pair, waiting = pair_of(query.one, query.other), _Waiting()
        self._waiting[pair].add(waiting)  # before the look, so that nothing falls between
        try:
            found = await self._table.read(sql, values)
            if not found:
                await self._said(waiting, query.wait_s)
        finally:
            self._waiting[pair].discard(waiting)
            if not self._waiting[pair]:
                del self._waiting[pair]
        if found:
            return page_of([(row[0], row[1]) for row in found], query.limit)
        news = [doc for doc in waiting.docs if doc.sequence > query.after]
        return page_of_docs(news[: query.limit + 1], query.limit)

    async def get_broadcast(self, query: GetBroadcast) -> DeliverySummary:
        """A broadcast and what became of its messages."""
        await self._seen(query.at_least)
        found = await self._table.read(SELECT_BROADCAST, (query.broadcast_id,))
        if not found:
            raise NotFound("broadcast_not_found", f"there is no broadcast {query.broadcast_id}")
        return summary_of(found[0], dict(await self._table.read(SELECT_SPREAD, (query.broadcast_id,))))

    async def get_status(self, _query: GetMessagingStatus) -> MessagingStatus:
        """How messaging is doing."""
        board, moment = self._scene.board, self._moment()
        waiting = await self._table.read(SELECT_WAITING)
        oldest = await self._table.read(SELECT_ONE, (min((row[2] for row in waiting), default=0),))
        waits_s = (moment.utc - doc_of(oldest[0]).sent_at).total_seconds() if oldest else 0.0
        return MessagingStatus(
            states=dict(await self._table.read(SELECT_STATES)),
            waiting={priority: count for priority, count, _ in waiting},
            oldest_waiting_s=max(0.0, waits_s),
            sessions=len(board.sessions),
            full_inboxes=tuple(
                sorted(name for name, box in board.boxes.items() if box.unread >= moment.config.inbox_max)
            ),
        )

    async def _page(self, select: tuple[str, tuple[Any, ...]], limit: int, at_least: int) -> Page[MessageDoc]:
        await self._seen(at_least)
        return page_of([(row[0], row[1]) for row in await self._table.read(*select)], limit)

    async def _said(self, waiting: _Waiting, wait_s: float) -> None:
        if not waiting.docs:
            try:
                async with asyncio.timeout(min(max(wait_s, 0.0), AWAIT_MAX_S)):
                    await waiting.said.wait()
            except TimeoutError:
                return
