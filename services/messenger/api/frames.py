"""What is said on the WebSocket of a bot. See docs/websocket.md."""

from typing import Annotated, Final

import msgspec

from services.messenger.api.requests import Text
from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import BotId, MessageId, Party, Priority
from shared.runtime.websocket import REF_CHARS_MAX, Asked, Frame, Ping

SEQUENCE_MAX: Final = 10**18 - 1

Ref = Annotated[str, msgspec.Meta(min_length=1, max_length=REF_CHARS_MAX)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """You are `party`, this is the conversation with `bot`, and what follows comes after `after`."""

    bot: BotId
    party: Party
    after: int


class Said(Frame, frozen=True, kw_only=True, tag="text"):
    """A message of the conversation, of either side; `after=<sequence>` goes on behind it."""

    sequence: int
    message: MessageDoc


class Accepted(Frame, frozen=True, kw_only=True, tag="accepted"):
    """What you sent as `ref` is this message.

    Without a `sequence` it is stored, and not decided yet: another one follows that has it, or an error.
    """

    ref: str
    id: MessageId
    sequence: int | None = None


class Live(Frame, frozen=True, kw_only=True, tag="live"):
    """What the bot writes while it answers a message; its answer will have all of it."""

    message_id: MessageId
    sequence: int
    index: int
    text: str
    channel: str


class LiveGap(Frame, frozen=True, kw_only=True, tag="gap"):
    """Some of it can no longer be had here; the answer will have it. `missing`: chunks, where known."""

    message_id: MessageId
    after: int
    before: int
    missing: int | None = None


class Ended(Frame, frozen=True, kw_only=True, tag="state"):
    """A message of yours came to an end without an answer: failed, expired, or read."""

    message_id: MessageId
    state: str
    reason: str | None = None


class Read(Frame, frozen=True, kw_only=True, tag="read"):
    """What the bot said up to here is marked as read; so many messages were not before."""

    sequence: int
    messages: int


class Say(Asked, frozen=True, kw_only=True, tag="text"):
    """Send this to the bot. The same `ref` again is the same message, on whichever connection."""

    ref: Ref
    content: Text
    priority: Priority = Priority.P2


class Ack(Asked, frozen=True, kw_only=True, tag="ack"):
    """What the bot said up to this sequence has been read."""

    sequence: Sequence


ClientFrame = Say | Ack | Ping
