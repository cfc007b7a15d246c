"""What the gateway records about access: keys, by hash, never by secret."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from shared.contracts.words import KeyId
from shared.kernel.messages import Command, Fact, Query

KEY_NAME_CHARS_MAX: Final = 100


def is_key_name(name: str) -> bool:
    """Whether a key may be called so: it is the name of a person, in paths as `@name`, and in lists."""
    return 1 <= len(name) <= KEY_NAME_CHARS_MAX and name.isprintable() and "/" not in name


class KeyCreated(Fact, frozen=True, kw_only=True):
    """A key exists. `secret_hash` is SHA-256 hex of the secret; `kind`: api, login (one use), session.

    `rate_per_minute` None: no limit.
    Scopes: `tasks:read tasks:write bots:read bots:write messages:read messages:write dlq:write keys:write
    admin`.
    """

    key_id: KeyId
    name: str
    kind: str
    prefix: str
    secret_hash: str
    scopes: tuple[str, ...]
    rate_per_minute: int | None = None
    expires_at: datetime | None = None


class KeyUsed(Fact, frozen=True, kw_only=True):
    """It was used; said at most once an hour."""

    key_id: KeyId


class KeyRevoked(Fact, frozen=True, kw_only=True):
    """It opens nothing any more."""

    key_id: KeyId
    reason: str


KeyFact = KeyCreated | KeyUsed | KeyRevoked


class _KeyCommand(Command, frozen=True, kw_only=True):
    """About one key."""

    service: ClassVar[str] = "gateway"
    aggregate: ClassVar[str] = "key"
    key_field: ClassVar[str] = "key_id"
    senders: ClassVar[frozenset[str]] = frozenset({"gateway"})


class CreateKey(_KeyCommand, frozen=True, kw_only=True):
    """There shall be such a key."""

    opens: ClassVar[bool] = True

    key_id: KeyId
    name: str
    kind: str
    prefix: str
    secret_hash: str
    scopes: tuple[str, ...]
    rate_per_minute: int | None = None
    expires_at: datetime | None = None


class NoteKeyUse(_KeyCommand, frozen=True, kw_only=True):
    """It was used at this moment."""

    key_id: KeyId


class RevokeKey(_KeyCommand, frozen=True, kw_only=True):
    """It shall open nothing any more."""

    key_id: KeyId
    reason: str = "asked"


KeyRequest = CreateKey | NoteKeyUse | RevokeKey


class KeyDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A key as everybody sees it: never its secret. `kind`: api, login, session."""

    id: KeyId
    name: str
    kind: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    version: int
    rate_per_minute: int | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the keys, newest first; `next_cursor` asks for what follows, None at the end."""

    items: list[KeyDoc]
    next_cursor: str | None = None


class ListKeys(Query[KeyPage], frozen=True, kw_only=True):
    """Keys, newest first; those that open nothing any more only when asked for. `name`: of that name only."""

    service: ClassVar[str] = "gateway"
    answer: ClassVar[object] = KeyPage

    ended: bool = False
    name: str | None = None
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class GetKey(Query[KeyDoc], frozen=True, kw_only=True):
    """One key. NotFound: `key_not_found`."""

    service: ClassVar[str] = "gateway"
    answer: ClassVar[object] = KeyDoc

    key_id: KeyId
    at_least: int = 0
