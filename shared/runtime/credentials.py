"""Who may speak to the broker: the operator, two accounts, and the users that are signed for them.

Trust, from the top: the operator signs the accounts, one for the services and one for the bots; an account
lists a signing key for each role of permissions.py, with what that role may do; a signing key makes users
of its role and of no other. The bot host has the bots' signing key alone. Who has `authority.json` has all:
the supervisor; in compose, `init` and `ops`.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from shared.contracts.words import is_name
from shared.runtime import clock, private, signing
from shared.runtime.permissions import (
    ANSWERED_WITHIN,
    BOT,
    CROSSINGS,
    ROLES,
    SYSTEM_ROLE,
    SYSTEM_SENDER,
    Crossing,
    Role,
)
from shared.runtime.streamconfig import ns

AUTHORITY_FILE: Final = "authority.json"
SIGNER_FILE: Final = "bots.signer"
STREAMS_MAX: Final = 64
CONSUMERS_MAX: Final = 20_000
UNLIMITED: Final = -1

BOT_USER_LIFETIME: Final = timedelta(days=90)
"""Then a bot's process ends, and its host starts it anew with a new user; revocations are kept as long."""
REVOCATIONS_MAX: Final = 10_000  # 1 MB of JWT: half of what the broker takes as one message


class CredentialsError(Exception):
    """A key file is damaged, or more was asked than can be signed; the text says what to do."""


class _Secrets(msgspec.Struct, kw_only=True):
    """What `authority.json` holds: every seed, and what was revoked (a user's public key: Unix seconds)."""

    operator: str
    system: str
    account: str
    bots: str
    roles: dict[str, str]
    made_at: int
    issued_at: int
    claims_digest: str = ""
    revocations: dict[str, int] = msgspec.field(default_factory=dict)


class _SignerFile(msgspec.Struct, frozen=True):
    account: str
    seed: str


@dataclass(frozen=True)
class BotSigner:
    """Makes users for bots, and can make no other."""

    account: str
    seed: str = field(repr=False)

    def mint(self, bot_id: str) -> tuple[str, str]:
        """A new user for a bot: the text of its `.creds` file, and the public key to revoke it by."""
        assert is_name(bot_id), bot_id
        return _mint(self.seed, self.account, bot_id, lifetime=BOT_USER_LIFETIME)

    def save(self, path: Path) -> None:
        """Write it where only its owner can read it."""
        private.write(path, msgspec.json.encode(_SignerFile(account=self.account, seed=self.seed)).decode())

    @classmethod
    def load(cls, path: Path) -> "BotSigner":
        """Read what `save` wrote."""
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_SignerFile)
        except (OSError, msgspec.DecodeError) as error:
            raise CredentialsError(
                f"{path} cannot be read ({error}): start the hive once, it writes it"
            ) from error
        return cls(account=stored.account, seed=stored.seed)


class Authority:
    """The keys of one hive, in a folder of their own."""

    def __init__(self, folder: Path, keys: _Secrets) -> None:
        self._folder = folder
        self._secrets = keys
        self.operator_id = signing.public_key(keys.operator)
        self.system_account_id = signing.public_key(keys.system)
        self.account_id = signing.public_key(keys.account)
        self.bots_account_id = signing.public_key(keys.bots)

    @property
    def operator_jwt(self) -> str:
        """What the server trusts."""
        return signing.sign(
            self._secrets.operator,
            subject=self.operator_id,
            name="hive",
            at=_moment(self._secrets.made_at),
            claims={"type": "operator", "system_account": self.system_account_id},
        )

    @property
    def account_jwt(self) -> str:
        """The services' account: its limits, its roles, and what it lets the bots' account reach."""
        return self._account(self.account_id, "hive", self._service_claims())

    @property
    def bots_account_jwt(self) -> str:
        """The bots' account: what it reaches of the services', the bots' role, and who was revoked."""
        return self._account(self.bots_account_id, "bots", self._bots_claims())

    @property
    def preload(self) -> dict[str, str]:
        """The accounts' JWTs by account: what a new server starts from."""
        system = signing.sign(
            self._secrets.operator,
            subject=self.system_account_id,
            name="SYS",
            at=_moment(self._secrets.made_at),
            claims={"type": "account", "limits": _limits(jetstream=False)},
        )
        return {
            self.system_account_id: system,
            self.account_id: self.account_jwt,
            self.bots_account_id: self.bots_account_jwt,
        }

    def service_creds(self, sender: str) -> str:
        """A new user of the role of that name: `ops`, `gateway`, `svc-<service>`."""
        assert sender != BOT, "bots are made by a BotSigner"
        return _mint(self._secrets.roles[sender], self.account_id, sender)[0]

    def system_creds(self) -> str:
        """A new user of the system account."""
        return _mint(self._secrets.system, self.system_account_id, SYSTEM_SENDER, own=SYSTEM_ROLE)[0]

    def bot_signer(self) -> BotSigner:
        """The key that makes bots' users."""
        return BotSigner(account=self.bots_account_id, seed=self._secrets.roles[BOT])

    def creds_path(self, sender: str) -> Path:
        """Where `create_authority` left the `.creds` file of a sender."""
        return self._folder / f"{sender}.creds"

    @property
    def signer_path(self) -> Path:
        """Where `create_authority` left the bots' signing key."""
        return self._folder / SIGNER_FILE

    def note_revocation(self, user_public_key: str) -> str:
        """The bots' account's JWT in which the user is revoked: on disk already, the caller pushes it."""
        if not signing.is_user(user_public_key):
            raise CredentialsError("only a bot's user can be revoked, by its public key")
        if user_public_key in self._secrets.revocations:
            return self.bots_account_jwt
        now = int(clock.now().timestamp())
        oldest = now - int(BOT_USER_LIFETIME.total_seconds())
        kept = {key: at for key, at in self._secrets.revocations.items() if at > oldest}
        if len(kept) >= REVOCATIONS_MAX:
            raise CredentialsError(
                f"{REVOCATIONS_MAX} users were revoked within {BOT_USER_LIFETIME.days} days: "
                "wait for the oldest to expire, or start a new hive"
            )
        self._secrets.revocations = kept | {user_public_key: now}
        self._issue()
        return self.bots_account_jwt

    def _account(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        at = _moment(self._secrets.issued_at)
        return signing.sign(self._secrets.operator, subject=subject, name=name, at=at, claims=claims)

    def _service_claims(self) -> dict[str, Any]:
        return {
            "type": "account",
            "limits": _limits(jetstream=True),
            "exports": [_export(crossing) for crossing in CROSSINGS],
            "signing_keys": [self._signing_key(name) for name in ROLES if name != BOT],
        }

    def _bots_claims(self) -> dict[str, Any]:
        return {
            "type": "account",
            "limits": _limits(jetstream=False),
            "imports": [_import(crossing, self.account_id) for crossing in CROSSINGS],
            "signing_keys": [self._signing_key(BOT)],
            "revocations": self._secrets.revocations,
        }

    def _signing_key(self, role: str) -> dict[str, Any]:
        return {
            "kind": "user_scope",
            "key": signing.public_key(self._secrets.roles[role]),
            "role": role,
            "template": _template(ROLES[role]),
        }

    def _issue(self) -> None:
        """Give the accounts newer JWTs if their claims have changed: the server keeps the newest it saw."""
        claims = (self._service_claims(), self._bots_claims())
        digest = hashlib.sha256(msgspec.json.encode(claims, order="sorted")).hexdigest()
        if digest == self._secrets.claims_digest:
            return
        self._secrets.claims_digest = digest
        self._secrets.issued_at = max(int(clock.now().timestamp()), self._secrets.issued_at + 1)
        self._save()

    def _save(self) -> None:
        private.write(self._folder / AUTHORITY_FILE, msgspec.json.encode(self._secrets).decode())

    def _add_missing(self) -> None:
        for name in ROLES:
            self._secrets.roles.setdefault(name, signing.new_seed(signing.PREFIX_ACCOUNT))
        self._issue()
        for sender in ROLES.keys() - {BOT}:
            if not self.creds_path(sender).exists():
                private.write(self.creds_path(sender), self.service_creds(sender))
        if not self.creds_path(SYSTEM_SENDER).exists():
            private.write(self.creds_path(SYSTEM_SENDER), self.system_creds())
        self.bot_signer().save(self.signer_path)


def create_authority(folder: Path) -> Authority:
    """The keys in this folder; made, with a `.creds` file for every service, where they are missing."""
    private.make_folder(folder)
    path = folder / AUTHORITY_FILE
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=_Secrets)
    except FileNotFoundError:
        now = int(clock.now().timestamp())
        keys = _Secrets(
            operator=signing.new_seed(signing.PREFIX_OPERATOR),
            system=signing.new_seed(signing.PREFIX_ACCOUNT),
            account=signing.new_seed(signing.PREFIX_ACCOUNT),
            bots=signing.new_seed(signing.PREFIX_ACCOUNT),
            roles={},
            made_at=now,
            issued_at=now - 1,
        )
    except msgspec.DecodeError as error:
        raise CredentialsError(f"{path} is damaged ({error}): put it back from a backup") from error
    authority = Authority(folder, keys)
    authority._add_missing()  # noqa: SLF001 - the other half of making one
    return authority


def _mint(
    seed: str, account: str, name: str, *, lifetime: timedelta | None = None, own: Role | None = None
) -> tuple[str, str]:
    """A user of the role that the signing key stands for; one signed by the account has its `own`."""
    user_seed = signing.new_seed(signing.PREFIX_USER)
    user = signing.public_key(user_seed)
    now = clock.now()
    expiry = {} if lifetime is None else {"exp": int((now + lifetime).timestamp())}
    claims: dict[str, Any] = {"type": "user"}
    claims |= {"issuer_account": account} if own is None else _template(own)
    jwt = signing.sign(seed, subject=user, name=name, at=now, claims=claims, **expiry)
    return signing.creds_text(jwt, user_seed), user


def _export(crossing: Crossing) -> dict[str, Any]:
    export: dict[str, Any] = {"name": crossing.subject, "subject": crossing.subject, "type": crossing.kind}
    if crossing.kind == "service":
        export["response_type"] = {"one": "Singleton", "many": "Stream"}[crossing.answers]
        export["response_threshold"] = ns(ANSWERED_WITHIN)
    return export


def _import(crossing: Crossing, account: str) -> dict[str, Any]:
    subject = {"name": crossing.subject, "subject": crossing.subject}
    return {**subject, "account": account, "type": crossing.kind}


def _template(role: Role) -> dict[str, Any]:
    return {
        "pub": {"allow": list(role.publish)},
        "sub": {"allow": list(role.subscribe)},
        "subs": role.subscriptions_max,
        "data": UNLIMITED,
        "payload": role.payload_bytes_max,
    }


def _limits(*, jetstream: bool) -> dict[str, Any]:
    """Memory and disk are bounded by the server's own limits; counts are bounded here."""
    everything = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), UNLIMITED)
    if not jetstream:
        return {**everything, "wildcards": True}
    return {
        **everything,
        "wildcards": True,
        "mem_storage": UNLIMITED,
        "disk_storage": UNLIMITED,
        "streams": STREAMS_MAX,
        "consumer": CONSUMERS_MAX,
    }


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=clock.now().tzinfo)
