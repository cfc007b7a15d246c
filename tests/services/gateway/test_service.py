"""The first key, and what goes on record about access."""

import asyncio
from pathlib import Path

import pytest

from services.gateway.facts import AccessDenied
from services.gateway.service import SOURCES_MAX, Denials, Uses, keep_first_key
from shared.contracts.words import KeyId
from shared.kernel.codec import Codec
from shared.runtime.memory import MemoryStore
from tests.support.api import ApiHive
from tests.support.scenario import NOON

SECRET = "hive_the-first-key-of-this-test"
DENIED: Codec[AccessDenied] = Codec(AccessDenied)


def key_file(folder: Path, text: str = f"{SECRET}\n") -> Path:
    file = folder / "admin-key"
    file.write_text(text)
    return file


async def test_the_key_in_the_file_opens_everything(tmp_path: Path) -> None:
    hive = ApiHive()
    for _ in range(2):
        await keep_first_key(key_file(tmp_path), hive)
    async with hive.client(SECRET) as client:
        assert (await client.get("/v1/keys")).status_code == 200
    assert len(hive.store._log) == 1


async def test_another_secret_in_the_file_is_another_key(tmp_path: Path) -> None:
    hive = ApiHive()
    await keep_first_key(key_file(tmp_path), hive)
    await keep_first_key(key_file(tmp_path, "hive_another-secret-of-this-test"), hive)
    assert len(hive.store._log) == 2


async def test_the_first_key_is_asked_for_until_it_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.service.AGAIN_AFTER_S", 0.0)
    hive = ApiHive()
    hive.undecided = True
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_first_key(key_file(tmp_path), hive))
        while not hive.sent:
            await asyncio.sleep(0)
        hive.undecided = False
    assert hive.keys.page(at=NOON, ended=False, cursor=None, limit=1).items


async def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 20 characters"):
        await keep_first_key(key_file(tmp_path, "admin"), ApiHive())


async def test_a_revoked_first_key_is_said_to_be_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hive = ApiHive()
    await keep_first_key(key_file(tmp_path), hive)
    await hive.revoke(next(iter(hive.keys._docs)))
    await keep_first_key(key_file(tmp_path), hive)
    assert "opens nothing" in caplog.text
    assert SECRET not in caplog.text


async def test_use_that_cannot_be_said_now_does_not_end_the_process() -> None:
    hive = ApiHive()
    key_id = await hive.key()
    uses = Uses(hive)
    hive.broker_away = True
    uses.note(key_id)
    uses.note(KeyId("other"))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(uses.run())
        while uses._used.qsize():
            await asyncio.sleep(0)
        hive.broker_away = False
        uses.note(key_id)
        while hive.keys.get(key_id).last_used_at is None:
            await asyncio.sleep(0)
        running.cancel()


async def denied(store: MemoryStore) -> list[tuple[str, str, int]]:
    facts = [
        DENIED.decode(fact) for each in await store.read("audit", "gateway") for fact in each.commit.facts
    ]
    return [(fact.source, fact.code, fact.count) for fact in facts]


async def test_denied_access_is_counted_and_recorded() -> None:
    store = MemoryStore()
    denials = Denials(store, lambda: NOON)
    for code in ("key_unknown", "key_unknown", "key_missing"):
        denials.note("10.0.0.1", code)
    await denials.record()
    await denials.record()
    assert await denied(store) == [("10.0.0.1", "key_unknown", 2), ("10.0.0.1", "key_missing", 1)]


async def test_many_strangers_do_not_fill_the_log() -> None:
    store = MemoryStore()
    denials = Denials(store, lambda: NOON)
    for number in range(SOURCES_MAX + 500):
        denials.note(f"source {number}", "key_unknown")
    await denials.record()
    told = await denied(store)
    assert len(told) == SOURCES_MAX + 1
    assert ("others", "key_unknown", 500) in told
