"""Keys, and who is let in by them."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import nats
import nkeys
import pytest
from nats.aio.client import Client

from shared.runtime import revocation, signing
from shared.runtime.broker import BrokerProcess
from shared.runtime.connection import Connection, connect
from shared.runtime.credentials import (
    REVOCATIONS_MAX,
    Authority,
    BotSigner,
    CredentialsError,
    create_authority,
)
from shared.runtime.permissions import BOT, REVOKE_SUBJECT, ROLES
from shared.runtime.revocation import serve_revocations
from tests.support.nats_server import LocalBroker

CUT_WITHIN_S = 5.0  # five times the bound


def _claims(jwt: str) -> dict[str, Any]:
    body = jwt.split(".")[1]
    claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def _jwt_of(creds: str) -> str:
    return creds.splitlines()[1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "keys")


def test_keys_are_made_once_and_found_again(authority: Authority, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}

    again = create_authority(tmp_path / "keys")

    assert {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == files
    assert (again.operator_jwt, again.preload) == (authority.operator_jwt, authority.preload)


def test_only_their_owner_can_read_the_keys(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert authority.signer_path.exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_every_service_finds_its_user_and_the_bot_host_its_signer(
    authority: Authority, tmp_path: Path
) -> None:
    names = {path.name for path in (tmp_path / "keys").iterdir()}
    assert {f"{sender}.creds" for sender in ROLES if sender != BOT} | {"sys.creds", "bots.signer"} < names
    assert BotSigner.load(authority.signer_path) == authority.bot_signer()


def test_a_damaged_key_file_is_not_made_anew(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "keys" / "authority.json").write_text("{")
    with pytest.raises(CredentialsError, match="put it back from a backup"):
        create_authority(tmp_path / "keys")


def test_what_is_signed_can_be_verified_by_its_issuer(authority: Authority) -> None:
    head, body, signature = authority.account_jwt.split(".")
    raw = base64.b32decode(authority.operator_id + "=" * (-len(authority.operator_id) % 8))
    key = nkeys.nacl.signing.VerifyKey(raw[1:-2])
    assert key.verify(f"{head}.{body}".encode(), base64.urlsafe_b64decode(signature + "=="))


def test_a_user_s_own_jwt_states_no_permission(authority: Authority) -> None:
    creds, key = authority.bot_signer().mint("ada")
    claims = _claims(_jwt_of(creds))
    assert (claims["sub"], claims["name"]) == (key, "ada")
    assert claims["nats"] == {"type": "user", "version": 2, "issuer_account": authority.bots_account_id}


def test_the_bots_signer_is_not_the_account(authority: Authority) -> None:
    signer = authority.bot_signer()
    assert signing.public_key(signer.seed) not in {authority.bots_account_id, authority.operator_id}
    assert signer.account not in {authority.account_id, authority.system_account_id}
    assert signer.seed not in repr(signer)


def test_changed_permissions_make_a_newer_account(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = replace(ROLES[BOT], publish=(*ROLES[BOT].publish, "more.{{name()}}"))
    monkeypatch.setitem(ROLES, BOT, wider)
    before = _claims(authority.bots_account_jwt)
    after = _claims(create_authority(tmp_path / "keys").bots_account_jwt)
    assert after["iat"] > before["iat"]
    assert "more.{{name()}}" in str(after["nats"]["signing_keys"])


def test_only_a_user_can_be_revoked(authority: Authority) -> None:
    for key in (authority.account_id, "U" * 56, "", "*"):
        with pytest.raises(CredentialsError, match="only a bot's user"):
            authority.note_revocation(key)


def test_revocations_are_bounded_and_forgotten_when_the_user_has_expired(
    authority: Authority, tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "authority.json"
    stored = msgspec.json.decode(path.read_bytes())
    stored["revocations"] = {f"U{number}": stored["made_at"] for number in range(REVOCATIONS_MAX)}
    path.write_bytes(msgspec.json.encode(stored))
    _, key = authority.bot_signer().mint("ada")
    with pytest.raises(CredentialsError, match="wait for the oldest"):
        create_authority(tmp_path / "keys").note_revocation(key)

    stored["revocations"] = {f"U{number}": 1 for number in range(REVOCATIONS_MAX)}
    path.write_bytes(msgspec.json.encode(stored))
    jwt = create_authority(tmp_path / "keys").note_revocation(key)

    assert _claims(jwt)["nats"]["revocations"].keys() == {key}


# ── on a real server ──


@pytest.fixture
async def system(broker: LocalBroker) -> AsyncIterator[Connection]:
    connection = await connect(broker.settings("sys"))
    yield connection
    await connection.close()


async def _cut(broker: LocalBroker, sender: str) -> tuple[Client, asyncio.Event]:
    """A client of that sender, and the event of its being cut off."""
    gone = asyncio.Event()

    async def on_closed() -> None:
        gone.set()

    client = await nats.connect(
        broker.url,
        user_credentials=str(broker.creds(sender)),
        inbox_prefix=f"_INBOX.{sender}".encode(),
        allow_reconnect=False,
        closed_cb=on_closed,
        error_cb=_ignore,
    )
    return client, gone


async def _ignore(_: Exception) -> None:
    """The cut is seen by the closed callback."""


async def _is_let_in(broker: LocalBroker, sender: str) -> bool:
    client = Client()
    try:
        await client.connect(
            broker.url,
            user_credentials=str(broker.creds(sender)),
            inbox_prefix=f"_INBOX.{sender}".encode(),
            allow_reconnect=False,
            error_cb=_ignore,
        )
    except nats.errors.Error:
        return False
    finally:
        await client.close()
    return True


async def test_a_revoked_user_is_cut_off_and_stays_out(broker: LocalBroker, system: Connection) -> None:
    _, ada_gone = await _cut(broker, "bot-ada")
    bob, bob_gone = await _cut(broker, "bot-bob")

    await revocation.revoke(system, broker.authority, broker.keys["bot-ada"])

    async with asyncio.timeout(CUT_WITHIN_S):
        await ada_gone.wait()
    assert not await _is_let_in(broker, "bot-ada")
    await bob.flush()
    assert not bob_gone.is_set()
    await bob.close()


async def test_a_name_that_is_launched_again_has_a_new_user(broker: LocalBroker, system: Connection) -> None:
    broker.creds("bot-ada")
    await revocation.revoke(system, broker.authority, broker.keys["bot-ada"])

    broker.creds("bot-ada").unlink()

    assert await _is_let_in(broker, "bot-ada")


async def test_a_revoked_user_stays_out_when_the_broker_starts_from_an_older_configuration(
    broker: LocalBroker, system: Connection
) -> None:
    stale = replace(broker.process.config, authority=create_authority(broker.folder / "keys"))
    assert await _is_let_in(broker, "bot-ada")
    await revocation.revoke(system, broker.authority, broker.keys["bot-ada"])
    assert stale.authority.bots_account_jwt != broker.authority.bots_account_jwt
    await system.close()
    broker.close()

    broker.process = BrokerProcess.start(stale, broker.folder / "run", broker.folder / "nats.log")
    broker.process.wait_ready()

    assert not await _is_let_in(broker, "bot-ada")
    assert await _is_let_in(broker, "bot-bob")


async def test_the_bot_host_asks_and_the_holder_of_the_account_revokes(
    broker: LocalBroker, system: Connection
) -> None:
    ops = await connect(broker.settings("ops"))
    host = await connect(broker.settings("svc-bots"))
    await serve_revocations(ops, system, broker.authority)
    await ops.nc.flush()
    _, gone = await _cut(broker, "bot-ada")

    for _ in range(2):
        answer = await host.request(REVOKE_SUBJECT, broker.keys["bot-ada"].encode(), timeout=5)
        assert answer.data == revocation.DONE

    async with asyncio.timeout(CUT_WITHIN_S):
        await gone.wait()
    await host.close()
    await ops.close()


async def test_what_was_noted_and_never_pushed_is_pushed_when_serving_begins(
    broker: LocalBroker, system: Connection
) -> None:
    ops = await connect(broker.settings("ops"))
    _, gone = await _cut(broker, "bot-ada")
    broker.authority.note_revocation(broker.keys["bot-ada"])

    await serve_revocations(ops, system, broker.authority)

    async with asyncio.timeout(CUT_WITHIN_S):
        await gone.wait()
    await ops.close()


async def test_who_signs_with_a_key_of_another_hive_is_not_let_in(
    broker: LocalBroker, tmp_path: Path
) -> None:
    stranger = create_authority(tmp_path / "other").bot_signer()
    broker.authority.creds_path("bot-ada").write_text(stranger.mint("ada")[0])
    assert not await _is_let_in(broker, "bot-ada")
    own = broker.authority
    for account, seed in (
        (own.bots_account_id, stranger.seed),
        (own.account_id, stranger.seed),
        (own.account_id, own.bot_signer().seed),  # the bots' signer makes no user among the services
    ):
        forged = BotSigner(account=account, seed=seed)
        own.creds_path("bot-ada").write_text(forged.mint("ada")[0])
        assert not await _is_let_in(broker, "bot-ada")


async def test_a_service_cannot_be_cut_off_by_a_bot_host(broker: LocalBroker, system: Connection) -> None:
    gateway = _claims(_jwt_of(broker.creds("gateway").read_text()))["sub"]
    client, gone = await _cut(broker, "gateway")

    await revocation.revoke(system, broker.authority, gateway)

    await client.flush()
    assert not gone.is_set()
    await client.close()
    assert await _is_let_in(broker, "gateway")


async def test_two_hundred_bots_are_connected_at_once_and_one_is_cut_off(
    broker: LocalBroker, system: Connection
) -> None:
    clients = [await _cut(broker, f"bot-b{number}") for number in range(200)]

    await revocation.revoke(system, broker.authority, broker.keys["bot-b77"])

    async with asyncio.timeout(CUT_WITHIN_S):
        await clients[77][1].wait()
    for client, gone in clients:
        if not gone.is_set():
            await client.flush()
    assert sum(gone.is_set() for _, gone in clients) == 1
    for client, _ in clients:
        await client.close()
