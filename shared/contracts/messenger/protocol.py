"""What the messenger and a bot say besides commands. See docs/bot-protocol.md and ADR 14."""

from datetime import datetime

import msgspec

from shared.contracts.messenger.facts import MessageError
from shared.contracts.words import BotId, MessageId, MessageKind, Party, Priority


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `mail.<bot_id>`, as a request, asked again until answered: begin a session, and send what is mine.

    Said at the start, after each reconnect, when a mail is missing, and when asked on `inbox.<bot_id>.hello`.
    `session` is new each time. `holding` are the messages that this process has and will see to, begun or
    not; whatever else was delivered and kept is lost, and comes again.
    """

    bot_id: BotId
    session: str
    holding: tuple[MessageId, ...] = ()


class HelloAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session is begun: mail of it comes on `inbox.<bot_id>.<lane>`, of each lane from index 0 on."""

    session: str
    lane_window: int


class Mail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On `inbox.<bot_id>.<p0..p3>`: a message.

    `index` counts the mails of one lane in one session: another session's are dropped, and where one is
    missing the bot says Hello again. `sequence` is that of the message's MessageSent: the order.
    `again`: returned as retryable, it comes again, and its sender's later ones of the lane wait for that.
    """

    session: str
    index: int
    message_id: MessageId
    delivery: int
    sequence: int
    sender: Party
    content: str
    priority: Priority
    kind: MessageKind
    sent_at: datetime
    expires_at: datetime
    chain: str
    in_reply_to: MessageId | None = None
    broadcast: str | None = None
    error: MessageError | None = None
    again: bool = False
