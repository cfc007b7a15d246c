"""A messenger as simple as it can be: it takes messages, knows their states, and answers what is asked."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.contracts.messenger.commands import MarkRead, SendBroadcast, SendMessage
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
from shared.contracts.words import BotId, MessageId, MessageKind, Page, Party, is_person
from shared.kernel.errors import NotFound
from shared.kernel.messages import AlreadySo, Committed, Outcome, Query, Refused

UNREAD = frozenset({"pending", "delivered"})


class FakeMessenger:
    """Messages by id. A test may add what a bot says, and say that an inbox is full."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._sequence = 100
        self._hashes: dict[str, str] = {}
        self._broadcasts: dict[str, DeliverySummary] = {}
        self._news = asyncio.Condition()
        self.messages: dict[str, MessageDoc] = {}
        self.bots = ["alpha", "beta"]
        self.full: set[str] = set()
        self.read_commands: list[MarkRead] = []
        self.waiting = 0

    async def decide(self, command: SendMessage | SendBroadcast | MarkRead, command_id: str) -> Outcome:
        """The outcome."""
        match command:
            case SendMessage():
                return await self._send(command, command_id)
            case SendBroadcast():
                return self._broadcast(command, command_id)
            case MarkRead():
                return self._mark(command, command_id)

    async def say(self, sender: str, recipient: str, content: str, **fields: Any) -> MessageDoc:
        """What somebody says without asking the API."""
        message_id = MessageId(f"m{self._sequence + 1}")
        await self._accept(message_id, Party(sender), Party(recipient), content, **fields)
        return self.messages[message_id]

    def become(self, message_id: str, state: str) -> None:
        """The message is in another state."""
        self._sequence += 1
        self.messages[message_id] = msgspec.structs.replace(
            self.messages[message_id], state=state, version=self._sequence
        )

    async def answer(self, query: Query[Any]) -> Any:
        """What the views say."""
        match query:
            case GetMessage():
                if query.message_id not in self.messages:
                    raise NotFound("message_not_found", "there is no such message")
                return self.messages[query.message_id]
            case ListMessages():
                return self._page(query, lambda each: _listed(query, each))
            case GetInbox():
                return self._inbox(query)
            case GetConversation():
                return self._page(
                    query, lambda each: {each.sender, each.recipient} == {query.one, query.other}
                )
            case AwaitConversation():
                return await self._await(query)
            case GetMessagingStatus():
                return MessagingStatus(states={}, waiting={}, oldest_waiting_s=0, sessions=0, full_inboxes=())
            case GetBroadcast():
                if query.broadcast_id not in self._broadcasts:
                    raise NotFound("broadcast_not_found", "there is no such broadcast")
                return self._broadcasts[query.broadcast_id]
            case _:
                raise AssertionError(query)

    async def _send(self, command: SendMessage, command_id: str) -> Outcome:
        if (known := self._hashes.get(command.message_id)) is not None:
            if known != command.body_hash:
                return Refused(command_id=command_id, code="idempotency_key_reused", detail="another body")
            return AlreadySo(command_id=command_id, sequence=self.messages[command.message_id].version)
        if not is_person(command.sender) and command.sender not in self.bots:
            return Refused(command_id=command_id, code="sender_unknown", detail="did you mean alpha?")
        if not is_person(command.recipient) and command.recipient not in self.bots and not command.hold:
            return Refused(command_id=command_id, code="recipient_unknown", detail="did you mean alpha?")
        if command.recipient in self.full and command.priority != "P0":
            return Refused(command_id=command_id, code="inbox_full", detail="10,000 are unread")
        self._hashes[command.message_id] = command.body_hash
        await self._accept(
            command.message_id,
            command.sender,
            command.recipient,
            command.content,
            priority=command.priority,
            kind=command.kind,
            in_reply_to=command.in_reply_to,
            held=command.recipient not in self.bots and not is_person(command.recipient),
        )
        return Committed(command_id=command_id, sequence=self._sequence)

    async def _accept(
        self, message_id: MessageId, sender: Party, recipient: Party, content: str, **fields: Any
    ) -> None:
        self._sequence += 1
        self.messages[message_id] = MessageDoc(
            id=message_id,
            sequence=self._sequence,
            version=self._sequence,
            state="delivered" if is_person(recipient) else "pending",
            sender=sender,
            recipient=recipient,
            content=content,
            **{"priority": "P2", "kind": MessageKind.NOTE, **fields},
            sent_at=self._now(),
            updated_at=self._now(),
            expires_at=self._now() + timedelta(hours=1),
            deliveries=0,
            deliveries_max=3,
        )
        async with self._news:
            self._news.notify_all()

    def _broadcast(self, command: SendBroadcast, command_id: str) -> Outcome:
        if command.pool == "nobody":
            return Refused(command_id=command_id, code="no_recipients", detail="no bot is in it")
        self._sequence += 1
        self._broadcasts[command.broadcast_id] = DeliverySummary(
            id=command.broadcast_id,
            sender=command.sender,
            content=command.content,
            selection=f"pool {command.pool}" if command.pool else "all",
            sent_at=self._now(),
            version=self._sequence,
            recipients=len(self.bots),
            missing=len(self.bots),
            states={},
            refused={BotId("gamma"): "inbox_full"},
        )
        return Committed(command_id=command_id, sequence=self._sequence)

    def _mark(self, command: MarkRead, command_id: str) -> Outcome:
        self.read_commands.append(command)
        message = self.messages[command.message_id]
        if message.state == "pending":
            return Refused(command_id=command_id, code="not_delivered", detail="it is on its way")
        if message.state == "read":
            return AlreadySo(command_id=command_id, sequence=message.version)
        self.become(command.message_id, "read")
        return Committed(command_id=command_id, sequence=self._sequence)

    def _inbox(self, query: GetInbox) -> Inbox:
        def wanted(each: MessageDoc) -> bool:
            return (
                each.recipient == query.party
                and query.state in {None, each.state}
                and query.priority in {None, each.priority}
                and (not query.unread or each.state in UNREAD)
            )

        mine = [each for each in self.messages.values() if each.recipient == query.party]
        page = self._page(query, wanted)
        return Inbox(
            items=page.items,
            next_cursor=page.next_cursor,
            unread=sum(each.state in UNREAD for each in mine),
            pending=sum(each.state == "pending" for each in mine),
        )

    def _page(self, query: Any, wanted: Callable[[MessageDoc], bool]) -> Page[MessageDoc]:
        before = int(query.cursor or 10**18)
        found = [each for each in reversed(self.messages.values()) if wanted(each) and each.sequence < before]
        return _first(found, query.limit)

    async def _await(self, query: AwaitConversation) -> Page[MessageDoc]:
        def after() -> list[MessageDoc]:
            return [
                each
                for each in self.messages.values()
                if {each.sender, each.recipient} == {query.one, query.other} and each.sequence > query.after
            ]

        self.waiting += 1
        try:
            async with asyncio.timeout(query.wait_s), self._news:
                await self._news.wait_for(lambda: bool(after()))
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
        return _first(after(), query.limit)


def _first(found: Sequence[MessageDoc], limit: int) -> Page[MessageDoc]:
    items = list(found[:limit])
    return Page(items=items, next_cursor=str(items[-1].sequence) if len(found) > limit else None)


def _listed(query: ListMessages, each: MessageDoc) -> bool:
    return (
        query.party in {None, each.sender, each.recipient}
        and query.sender in {None, each.sender}
        and query.recipient in {None, each.recipient}
        and query.state in {None, each.state}
        and query.priority in {None, each.priority}
        and query.broadcast in {None, each.broadcast}
    )
