"""What the messenger can be asked about, and the documents it answers with (the API's own JSON)."""

from datetime import datetime
from typing import ClassVar

import msgspec

from shared.contracts.messenger.facts import MessageError
from shared.contracts.words import BotId, MessageId, MessageKind, Page, Party, Priority
from shared.kernel.messages import Query


class MessageDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A message as everybody sees it. `state`: pending, delivered, read, failed, expired.

    `sequence` is that of its acceptance, its place in every list; `version` that of its newest commit.
    """

    id: MessageId
    sequence: int
    version: int
    state: str
    sender: Party
    recipient: Party
    content: str
    priority: Priority
    kind: MessageKind
    sent_at: datetime
    updated_at: datetime
    expires_at: datetime
    deliveries: int  # begun so far
    deliveries_max: int
    in_reply_to: MessageId | None = None
    broadcast: str | None = None
    held: bool = False
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    retry_at: datetime | None = None
    reason: str | None = None
    error: MessageError | None = None


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """Messages to one party, newest first; `unread` and `pending` count all of them, not only this page."""

    items: list[MessageDoc]
    unread: int
    pending: int
    next_cursor: str | None = None


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """A broadcast and what became of it: messages by state; `missing` are not accepted yet."""

    id: str
    sender: Party
    content: str
    selection: str
    sent_at: datetime
    version: int
    recipients: int
    missing: int
    states: dict[str, int]
    refused: dict[BotId, str]


class MessagingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How messaging is doing: messages by state, what waits by priority, and for how long, in seconds."""

    states: dict[str, int]
    waiting: dict[str, int]
    oldest_waiting_s: float
    sessions: int
    full_inboxes: tuple[str, ...]


class GetMessage(Query[MessageDoc], frozen=True, kw_only=True):
    """One message. NotFound: `message_not_found`."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = MessageDoc

    message_id: MessageId
    at_least: int = 0


class ListMessages(Query[Page[MessageDoc]], frozen=True, kw_only=True):
    """Messages, newest first. `party`: sent by it or to it."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = Page[MessageDoc]

    party: Party | None = None
    sender: Party | None = None
    recipient: Party | None = None
    state: str | None = None
    priority: Priority | None = None
    broadcast: str | None = None
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class GetInbox(Query[Inbox], frozen=True, kw_only=True):
    """What was sent to a party, newest first. `unread`: pending and delivered ones only."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = Inbox

    party: Party
    state: str | None = None
    unread: bool = False
    priority: Priority | None = None
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class GetConversation(Query[Page[MessageDoc]], frozen=True, kw_only=True):
    """What two parties said to each other, newest first."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = Page[MessageDoc]

    one: Party
    other: Party
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class AwaitConversation(Query[Page[MessageDoc]], frozen=True, kw_only=True):
    """What two parties said after a sequence, oldest first; waits at most `wait_s` for something to be there.

    `next_cursor` is the sequence to go on from when there is more at once, None otherwise.
    """

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = Page[MessageDoc]

    one: Party
    other: Party
    after: int
    wait_s: float
    limit: int = 50


class GetMessagingStatus(Query[MessagingStatus], frozen=True, kw_only=True):
    """How messaging is doing."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = MessagingStatus


class GetBroadcast(Query[DeliverySummary], frozen=True, kw_only=True):
    """A broadcast and what became of it. NotFound: `broadcast_not_found`."""

    service: ClassVar[str] = "messenger"
    answer: ClassVar[object] = DeliverySummary

    broadcast_id: str
    at_least: int = 0
