"""The keys: found by the hash of a secret, listed newest first."""

from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

import msgspec

from services.gateway.facts import KeyEvent
from shared.contracts.gateway import KeyCreated, KeyDoc, KeyPage, KeyRevoked, KeyUsed
from shared.contracts.words import KeyId
from shared.kernel.errors import NotFound, Rejected
from shared.kernel.messages import Recorded

API: Final = "api"
LOGIN: Final = "login"
SESSION: Final = "session"

FORGOTTEN_AFTER: Final = timedelta(days=1)
"""So long an ended login link or session is remembered, to say why it opens nothing."""


class Keys:
    """Every key that may open something, and those that may no more."""

    def __init__(self) -> None:
        self._of_hash: dict[str, KeyId] = {}
        self._hash_of: dict[KeyId, str] = {}
        self._docs: dict[KeyId, KeyDoc] = {}
        self._made_at: dict[KeyId, int] = {}
        self._brief: dict[KeyId, None] = {}  # login links and sessions, oldest first

    def apply(self, commit: Recorded[KeyEvent]) -> None:
        """Take in one commit; one that was taken in before changes nothing."""
        for fact in commit.facts:
            known = self._docs.get(fact.key_id)
            if known is None or known.version < commit.sequence:
                self._take(fact, commit)

    def find(self, secret_hash: str) -> KeyDoc | None:
        """The key with this secret."""
        key_id = self._of_hash.get(secret_hash)
        return None if key_id is None else self._docs[key_id]

    def maker(self, doc: KeyDoc) -> KeyDoc | None:
        """The key that made this one, if one did."""
        kind, _, key_id = doc.created_by.partition(":")
        return self._docs.get(KeyId(key_id)) if kind == "key" else None

    def get(self, key_id: KeyId) -> KeyDoc:
        """One key."""
        doc = self._docs.get(key_id)
        if doc is None:
            raise NotFound("key_not_found", f"there is no key {key_id}")
        return doc

    def page(
        self, *, at: datetime, ended: bool, cursor: str | None, limit: int, name: str | None = None
    ) -> KeyPage:
        """Keys, newest first, after a cursor."""
        if cursor is not None and not cursor.isdecimal():
            raise Rejected("bad_cursor", "the cursor is not one that a page of keys gave")
        items: list[KeyDoc] = []
        for doc in reversed(self._docs.values()):
            if name not in {None, doc.name}:
                continue
            if (cursor is None or self._made_at[doc.id] < int(cursor)) and (ended or is_open(doc, at)):
                if len(items) == limit:
                    return KeyPage(items=items, next_cursor=str(self._made_at[items[-1].id]))
                items.append(doc)
        return KeyPage(items=items)

    def _take(self, fact: KeyEvent, commit: Recorded[KeyEvent]) -> None:
        match fact:
            case KeyCreated():
                self._forget_ended(commit.at - FORGOTTEN_AFTER)
                self._of_hash[fact.secret_hash] = fact.key_id
                self._hash_of[fact.key_id] = fact.secret_hash
                self._made_at[fact.key_id] = commit.sequence
                if fact.kind != API:
                    self._brief[fact.key_id] = None
                self._docs[fact.key_id] = KeyDoc(
                    id=fact.key_id,
                    name=fact.name,
                    kind=fact.kind,
                    prefix=fact.prefix,
                    scopes=fact.scopes,
                    created_at=commit.at,
                    created_by=commit.cause.actor,
                    version=commit.sequence,
                    rate_per_minute=fact.rate_per_minute,
                    expires_at=fact.expires_at,
                )
            case KeyUsed():
                self._change(fact.key_id, commit, last_used_at=commit.at)
            case KeyRevoked():
                self._change(fact.key_id, commit, revoked_at=commit.at)
                if fact.key_id not in self._brief:
                    self._close_what_came_of(fact.key_id, commit)
            case _:
                assert_never(fact)

    def _change(self, key_id: KeyId, commit: Recorded[KeyEvent], **changes: datetime) -> None:
        if (doc := self._docs.get(key_id)) is not None:
            self._docs[key_id] = msgspec.structs.replace(doc, version=commit.sequence, **changes)

    def _close_what_came_of(self, key_id: KeyId, commit: Recorded[KeyEvent]) -> None:
        """The login links that a revoked key made open nothing any more, nor do the sessions they opened."""
        for doc in [self._docs[brief] for brief in self._brief]:
            if doc.created_by == f"key:{key_id}":
                if doc.revoked_at is None:
                    self._change(doc.id, commit, revoked_at=commit.at)
                self._close_what_came_of(doc.id, commit)

    def _forget_ended(self, before: datetime) -> None:
        """Drop the two oldest if they ended long ago; done at each creation, it keeps their number down."""
        for key_id in list(self._brief)[:2]:
            doc = self._docs[key_id]
            if _ended_at(doc) < before:
                del self._brief[key_id], self._docs[key_id], self._made_at[key_id]
                del self._of_hash[self._hash_of.pop(key_id)]


def _ended_at(doc: KeyDoc) -> datetime:
    ends = [end for end in (doc.revoked_at, doc.expires_at) if end is not None]
    return min(ends, default=datetime.max.replace(tzinfo=UTC))


def is_open(doc: KeyDoc, at: datetime) -> bool:
    """Whether it opens anything at this time."""
    return doc.revoked_at is None and (doc.expires_at is None or at < doc.expires_at)
