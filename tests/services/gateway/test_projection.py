"""The keys as the guard and the lists see them."""

from datetime import datetime, timedelta

import pytest

from services.gateway.facts import KeyEvent
from services.gateway.projection import Keys, is_open
from shared.contracts.gateway import KeyCreated, KeyRevoked, KeyUsed
from shared.contracts.words import KeyId
from shared.kernel.errors import NotFound, Rejected
from shared.kernel.messages import Cause, Recorded
from tests.support.scenario import NOON

DAY = timedelta(days=1)


class Log:
    """Commits about keys, applied as they are written."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.commits: list[Recorded[KeyEvent]] = []

    def add(self, fact: KeyEvent, at: datetime = NOON) -> Recorded[KeyEvent]:
        commit = Recorded[KeyEvent](
            facts=(fact,),
            commit_id=f"c{len(self.commits)}",
            aggregate="key",
            aggregate_id=fact.key_id,
            sequence=len(self.commits) + 1,
            at=at,
            cause=Cause(message_id="m", correlation_id="m", actor="key:admin"),
        )
        self.commits.append(commit)
        self.keys.apply(commit)
        return commit

    def create(
        self, name: str, *, kind: str = "api", expires_at: datetime | None = None, at: datetime = NOON
    ) -> None:
        self.add(
            KeyCreated(
                key_id=KeyId(name),
                name=name,
                kind=kind,
                prefix="hive_",
                secret_hash=f"hash of {name}",
                scopes=("tasks:read",),
                expires_at=expires_at,
            ),
            at,
        )

    def names(self, *, ended: bool = False, cursor: str | None = None, limit: int = 50) -> list[str]:
        page = self.keys.page(at=NOON, ended=ended, cursor=cursor, limit=limit)
        return [key.name for key in page.items]


def test_a_key_is_found_by_the_hash_of_its_secret() -> None:
    log = Log()
    log.create("a")
    found = log.keys.find("hash of a")
    assert found is not None
    assert (found.name, found.created_by, found.created_at, found.version) == ("a", "key:admin", NOON, 1)
    assert log.keys.find("hash of b") is None


def test_what_happens_to_a_key_shows() -> None:
    log = Log()
    log.create("a")
    log.add(KeyUsed(key_id=KeyId("a")), NOON + DAY)
    log.add(KeyRevoked(key_id=KeyId("a"), reason="asked"), NOON + 2 * DAY)
    key = log.keys.get(KeyId("a"))
    assert (key.last_used_at, key.revoked_at, key.version) == (NOON + DAY, NOON + 2 * DAY, 3)
    assert not is_open(key, NOON)


def test_a_commit_that_comes_again_changes_nothing() -> None:
    log = Log()
    log.create("a")
    log.add(KeyRevoked(key_id=KeyId("a"), reason="asked"))
    before = log.keys.get(KeyId("a"))
    for commit in log.commits:
        log.keys.apply(commit)
    assert log.keys.get(KeyId("a")) == before


def test_keys_are_listed_newest_first_and_ended_ones_only_when_asked_for() -> None:
    log = Log()
    log.create("open")
    log.create("expired", expires_at=NOON)
    log.create("revoked")
    log.add(KeyRevoked(key_id=KeyId("revoked"), reason="asked"))
    log.create("newest", expires_at=NOON + DAY)
    assert log.names() == ["newest", "open"]
    assert log.names(ended=True) == ["newest", "revoked", "expired", "open"]


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    log = Log()
    for number in range(5):
        log.create(f"k{number}")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = log.keys.page(at=NOON, ended=False, cursor=cursor, limit=2)
        seen += [key.name for key in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["k4", "k3", "k2", "k1", "k0"]


def test_a_cursor_that_no_page_gave_is_refused() -> None:
    with pytest.raises(Rejected, match="bad_cursor"):
        Log().keys.page(at=NOON, ended=False, cursor="x", limit=2)


def test_a_key_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="key_not_found"):
        Log().keys.get(KeyId("a"))


def test_ended_sessions_are_forgotten_after_a_day_and_api_keys_never() -> None:
    log = Log()
    log.create("api", expires_at=NOON)
    log.create("session", kind="session", expires_at=NOON)
    log.create("link", kind="login", expires_at=NOON + 100 * DAY)
    log.create("later", at=NOON + DAY)
    assert log.names(ended=True) == ["later", "link", "session", "api"]
    log.create("much later", at=NOON + DAY + timedelta(seconds=1))
    assert log.names(ended=True) == ["much later", "later", "link", "api"]
    assert log.keys.find("hash of session") is None
