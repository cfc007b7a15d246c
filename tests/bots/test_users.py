"""The broker users of a host's bots."""

import os
import stat
from pathlib import Path

import msgspec

from bots.users import USED_FOR, Minted, Users
from shared.contracts.words import BotId
from shared.runtime.credentials import create_authority

ALPHA = BotId("alpha")


def users_of(folder: Path, hive: str = "hive") -> Users:
    return Users(folder / "bots", create_authority(folder / hive).bot_signer())


def test_a_bot_keeps_its_user_from_start_to_start(tmp_path: Path) -> None:
    first = users_of(tmp_path).creds(ALPHA).read_text()

    assert users_of(tmp_path).creds(ALPHA).read_text() == first
    assert len(users_of(tmp_path).keys(ALPHA)) == 1


def test_an_old_user_is_replaced_and_both_can_be_revoked(tmp_path: Path) -> None:
    users = users_of(tmp_path)
    first = users.creds(ALPHA).read_text()
    record = tmp_path / "bots" / "alpha" / "users.json"
    minted = msgspec.json.decode(record.read_bytes(), type=Minted)
    aged = msgspec.structs.replace(minted, made_at=minted.made_at - USED_FOR.total_seconds())
    record.write_bytes(msgspec.json.encode(aged))

    assert users.creds(ALPHA).read_text() != first
    assert users.keys(ALPHA)[0] == minted.keys[0]
    assert len(users.keys(ALPHA)) == 2


def test_users_of_another_hive_are_not_used(tmp_path: Path) -> None:
    first = users_of(tmp_path).creds(ALPHA).read_text()

    assert users_of(tmp_path, "another").creds(ALPHA).read_text() != first


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        creds = users_of(tmp_path).creds(ALPHA)
    finally:
        os.umask(old)

    assert stat.S_IMODE(creds.stat().st_mode) == 0o600
    assert stat.S_IMODE(creds.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(creds.parent.parent.stat().st_mode) == 0o700


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    users = users_of(tmp_path)
    creds = users.creds(ALPHA)

    users.forget(ALPHA)
    users.forget(ALPHA)

    assert not creds.exists()
    assert users.keys(ALPHA) == ()
