"""The life of a key."""

from datetime import timedelta
from typing import Any

from services.gateway.decider import KEY
from shared.contracts.gateway import CreateKey, KeyCreated, KeyRevoked, KeyUsed, NoteKeyUse, RevokeKey
from shared.contracts.words import KeyId
from tests.support.scenario import NOON, given

K1 = KeyId("k1")
FIELDS: dict[str, Any] = {
    "key_id": K1,
    "name": "ci",
    "kind": "api",
    "prefix": "hive_abcd",
    "secret_hash": "h1",
    "scopes": ("tasks:read",),
    "rate_per_minute": 100,
    "expires_at": NOON,
}
CREATED = KeyCreated(**FIELDS)
CREATE = CreateKey(**FIELDS)
USED = KeyUsed(key_id=K1)
REVOKED = KeyRevoked(key_id=K1, reason="asked")


def test_a_key_is_made_as_it_was_asked_for() -> None:
    given(KEY).when(CREATE).then(CREATED)


def test_asking_twice_for_a_key_makes_one() -> None:
    given(KEY, CREATED).when(CREATE).then_nothing()


def test_a_key_cannot_be_given_another_secret() -> None:
    given(KEY, CREATED).when(CreateKey(**FIELDS | {"secret_hash": "h2"})).then_rejected("key_exists")


def test_a_revoked_key_is_revoked_for_good() -> None:
    given(KEY, CREATED, REVOKED).when(CREATE).then_rejected("key_revoked")


def test_revoking_twice_revokes_once() -> None:
    given(KEY, CREATED).when(RevokeKey(key_id=K1)).then(REVOKED)
    given(KEY, CREATED, REVOKED).when(RevokeKey(key_id=K1)).then_nothing()


def test_what_is_not_there_cannot_be_revoked() -> None:
    given(KEY).when(RevokeKey(key_id=K1)).then_rejected("key_not_found")


def test_use_is_noted_at_most_once_an_hour() -> None:
    note = NoteKeyUse(key_id=K1)
    given(KEY, CREATED).when(note).then(USED)
    given(KEY, CREATED, USED).when(note, at=NOON + timedelta(minutes=59)).then_nothing()
    given(KEY, CREATED, USED).when(note, at=NOON + timedelta(hours=1)).then(USED)


def test_the_use_of_a_revoked_or_unknown_key_is_not_noted() -> None:
    given(KEY, CREATED, REVOKED).when(NoteKeyUse(key_id=K1)).then_nothing()
    given(KEY).when(NoteKeyUse(key_id=K1)).then_nothing()
