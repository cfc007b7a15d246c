"""The life of a key: it is made once, used, and revoked for good."""

from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec

from services.gateway.facts import KeyEvent
from shared.contracts.gateway import (
    CreateKey,
    KeyCreated,
    KeyRequest,
    KeyRevoked,
    KeyUsed,
    NoteKeyUse,
    RevokeKey,
)
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

USE_NOTED_EVERY: Final = timedelta(hours=1)


class NoKey(msgspec.Struct, frozen=True):
    """Nobody made it."""


class Active(msgspec.Struct, frozen=True):
    """It opens what its scopes say, until it expires."""

    secret_hash: str
    used_at: datetime | None = None


class Revoked(msgspec.Struct, frozen=True):
    """It opens nothing any more."""


Key = NoKey | Active | Revoked


def evolve(key: Key, fact: KeyEvent, _: int, at: datetime) -> Key:
    """The key after a fact."""
    match fact:
        case KeyCreated():
            return Active(fact.secret_hash)
        case KeyUsed():
            return msgspec.structs.replace(key, used_at=at) if isinstance(key, Active) else key
        case KeyRevoked():
            return Revoked()
        case _:
            assert_never(fact)


def decide(key: Key, command: KeyRequest, at: datetime) -> list[KeyEvent]:
    """The facts that follow from a command, none if it is already so."""
    match command:
        case CreateKey():
            return _create(key, command)
        case NoteKeyUse():
            return _note_use(key, command, at)
        case RevokeKey():
            return _revoke(key, command)
        case _:
            assert_never(command)


def _create(key: Key, command: CreateKey) -> list[KeyEvent]:
    match key:
        case NoKey():
            return [
                KeyCreated(
                    key_id=command.key_id,
                    name=command.name,
                    kind=command.kind,
                    prefix=command.prefix,
                    secret_hash=command.secret_hash,
                    scopes=command.scopes,
                    rate_per_minute=command.rate_per_minute,
                    expires_at=command.expires_at,
                )
            ]
        case Active() if key.secret_hash == command.secret_hash:
            return []
        case Active():
            raise Rejected("key_exists", f"key {command.key_id} exists and has another secret")
        case Revoked():
            raise Rejected("key_revoked", f"key {command.key_id} was revoked: that is for good")
        case _:
            assert_never(key)


def _note_use(key: Key, command: NoteKeyUse, at: datetime) -> list[KeyEvent]:
    match key:
        case Active() if key.used_at is None or at - key.used_at >= USE_NOTED_EVERY:
            return [KeyUsed(key_id=command.key_id)]
        case Active() | Revoked() | NoKey():
            return []
        case _:
            assert_never(key)


def _revoke(key: Key, command: RevokeKey) -> list[KeyEvent]:
    match key:
        case Active():
            return [KeyRevoked(key_id=command.key_id, reason=command.reason)]
        case Revoked():
            return []
        case NoKey():
            raise Rejected("key_not_found", f"there is no key {command.key_id}")
        case _:
            assert_never(key)


KEY = Decider[Key, KeyRequest, KeyEvent](initial=NoKey(), evolve=evolve, decide=decide)
