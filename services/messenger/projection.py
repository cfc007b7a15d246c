"""How facts become documents: a message's and a broadcast's. Pure folds; a commit counts once."""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from services.messenger.facts import BroadcastEvent, MessageEvent
from shared.contracts.messenger.facts import (
    BroadcastSent,
    BroadcastSpread,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageReplayed,
    MessageReturned,
    MessageSent,
)
from shared.contracts.messenger.queries import DeliverySummary, MessageDoc
from shared.kernel.messages import Recorded

_change = msgspec.structs.replace

UNREAD = ("pending", "delivered")


def fold_message(doc: MessageDoc | None, commit: Recorded[MessageEvent]) -> MessageDoc | None:
    """The document after a commit; None before the message was sent."""
    if doc is not None and commit.sequence <= doc.version:
        return doc
    for fact in commit.facts:
        if isinstance(fact, MessageSent):
            doc = _sent(fact, commit)
        elif doc is not None:
            doc = _after(doc, fact, commit)
    return None if doc is None else _change(doc, version=commit.sequence, updated_at=commit.at)


def fold_messages(commits: Sequence[Recorded[MessageEvent]]) -> MessageDoc | None:
    """The document after a whole past."""
    doc: MessageDoc | None = None
    for commit in commits:
        doc = fold_message(doc, commit)
    return doc


def fold_broadcast(
    summary: DeliverySummary | None, commit: Recorded[BroadcastEvent]
) -> DeliverySummary | None:
    """A broadcast after a commit, without what became of its messages."""
    if summary is not None and commit.sequence <= summary.version:
        return summary
    for fact in commit.facts:
        match fact:
            case BroadcastSent():
                summary = DeliverySummary(
                    id=fact.broadcast_id,
                    sender=fact.sender,
                    content=fact.content,
                    selection=fact.selection,
                    sent_at=commit.at,
                    version=commit.sequence,
                    recipients=len(fact.recipients),
                    missing=len(fact.recipients),
                    states={},
                    refused={},
                )
            case BroadcastSpread():
                if summary is not None:
                    summary = _change(summary, version=commit.sequence, refused=fact.refused)
            case _:
                assert_never(fact)
    return summary


def _sent(fact: MessageSent, commit: Recorded[MessageEvent]) -> MessageDoc:
    return MessageDoc(
        id=fact.message_id,
        sequence=commit.sequence,
        version=commit.sequence,
        state="pending",
        sender=fact.sender,
        recipient=fact.recipient,
        content=fact.content,
        priority=fact.priority,
        kind=fact.kind,
        sent_at=commit.at,
        updated_at=commit.at,
        expires_at=fact.expires_at,
        deliveries=0,
        deliveries_max=fact.deliveries_max,
        in_reply_to=fact.in_reply_to,
        broadcast=fact.broadcast,
        held=fact.held,
        error=fact.error,
    )


def _after(doc: MessageDoc, fact: MessageEvent, commit: Recorded[MessageEvent]) -> MessageDoc:
    at = commit.at
    match fact:
        case MessageSent():
            return doc
        case MessageDelivered():
            again = doc.state == "delivered"  # taken to be seen to, and then left for somebody to read
            begun = doc.deliveries if again else doc.deliveries + 1
            return _change(doc, state="delivered", deliveries=begun, delivered_at=at, retry_at=None)
        case MessageReturned():
            begun = doc.deliveries if fact.counts else max(0, doc.deliveries - 1)
            return _change(doc, state="pending", deliveries=begun, retry_at=fact.retry_at, reason=fact.reason)
        case MessageRead():
            return _change(doc, state="read", read_at=at, retry_at=None, reason=None)
        case MessageFailed():
            return _change(doc, state="failed", retry_at=None, reason=f"{fact.code}: {fact.reason}")
        case MessageExpired():
            return _change(doc, state="expired", retry_at=None)
        case MessageReplayed():
            return _change(
                doc,
                state="pending",
                deliveries_max=fact.deliveries_max,
                expires_at=fact.expires_at,
                delivered_at=None,
            )
        case _:
            assert_never(fact)
