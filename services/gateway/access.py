"""Who is let in: a key in `Authorization: Bearer …`, or a browser's session cookie."""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from services.gateway.decider import USE_NOTED_EVERY
from services.gateway.limits import Limits
from services.gateway.projection import API, SESSION, Keys
from shared.contracts.gateway import KeyDoc
from shared.contracts.words import KeyId
from shared.kernel.errors import NotFound
from shared.runtime.doors import Principal
from shared.runtime.http import EXTRA_HEADERS
from shared.runtime.openapi import SAYS
from shared.runtime.problems import Refusal
from shared.runtime.websocket import Admission

COOKIE: Final = "hive_session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PRINCIPALS_MAX: Final = 10_000  # kept ready; more are made again

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="hive"'}

Connection = ASGIConnection[Any, Any, Any, Any]


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


class Access:
    """The guard of every route under /v1. `denied(source, code)` and `used(key)` hear what goes on record."""

    def __init__(
        self,
        keys: Keys,
        limits: Limits,
        *,
        now: Callable[[], datetime],
        used: Callable[[KeyId], None],
        denied: Callable[[str, str], None],
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._now = now
        self._used = used
        self._denied = denied
        self._principals: dict[KeyId, tuple[int, Principal]] = {}
        self._noted_at: dict[KeyId, datetime] = {}

    async def guard(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Let the request pass, or raise what its caller is told."""
        try:
            key = self._key_of(connection)
            principal = self._principal(key)
            connection.scope["auth"] = principal
            self._within_limit(connection, principal)
            _check_scope(principal, handler)
        except Refusal as refusal:
            if refusal.problem.status != 429:  # noqa: PLR2004 - too many requests are no denial
                self._denied(source_of(connection), refusal.problem.code)
            raise
        self._note_use(key)

    def knock(self, connection: Connection, scope: str) -> Admission:
        """Let a WebSocket in that needs this scope, or raise what its caller is told."""
        try:
            key = self._key_of(connection)
            principal = self._principal(key)
            self._within_limit(connection, principal)
            _check(principal, scope)
        except Refusal as refusal:
            if refusal.problem.status != 429:  # noqa: PLR2004 - as above
                self._denied(source_of(connection), refusal.problem.code)
            raise
        self._note_use(key)
        return Admission(principal, lambda: self._closed(key.id), lambda: self._full(principal))

    def _closed(self, key_id: KeyId) -> Refusal | None:
        """Why a key opens nothing any more; None while it does."""
        try:
            self._check_open(self._keys.get(key_id))
        except NotFound:
            return _unauthorized("key_unknown", "There is no such key any more.")
        except Refusal as refusal:
            return refusal
        return None

    def _full(self, principal: Principal) -> int | None:
        """Count one more; how long to wait, if it is too much."""
        if principal.rate_per_minute is None:
            return None
        allowance = self._limits.take(principal.key_id, principal.rate_per_minute)
        return None if allowance.allowed else allowance.reset_s

    def _key_of(self, connection: Connection) -> KeyDoc:
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
            if scheme.lower() != "bearer" or not secret:
                raise _unauthorized("key_malformed", "Send `Authorization: Bearer <key>`.")
            return self._open_key(secret.strip(), API)
        secret = connection.cookies.get(COOKIE, "")
        if not secret:
            raise _unauthorized("key_missing", "Send a key as `Authorization: Bearer <key>`, or log in.")
        key = self._open_key(secret, SESSION)
        check_origin(connection)
        return key

    def _open_key(self, secret: str, kind: str) -> KeyDoc:
        key = self._keys.find(hash_of(secret))
        if key is None or key.kind != kind:
            raise _unauthorized("key_unknown", "There is no such key.")
        self._check_open(key)
        return key

    def _check_open(self, key: KeyDoc) -> None:
        if key.revoked_at is not None:
            raise _unauthorized("key_revoked", f"The key was revoked at {key.revoked_at.isoformat()}.")
        if key.expires_at is not None and key.expires_at <= self._now():
            raise _unauthorized("key_expired", f"The key expired at {key.expires_at.isoformat()}.")

    def _principal(self, key: KeyDoc) -> Principal:
        known = self._principals.get(key.id)
        if known is not None and known[0] == key.version:
            return known[1]
        principal = Principal(
            key_id=key.id,
            name=key.name,
            kind=key.kind,
            scopes=frozenset(key.scopes),
            rate_per_minute=key.rate_per_minute,
        )
        if len(self._principals) >= PRINCIPALS_MAX:
            self._principals.clear()
        self._principals[key.id] = (key.version, principal)
        return principal

    def _within_limit(self, connection: Connection, principal: Principal) -> None:
        if principal.rate_per_minute is None:
            return
        allowance = self._limits.take(principal.key_id, principal.rate_per_minute)
        connection.scope[EXTRA_HEADERS] = allowance.headers()  # type: ignore[typeddict-unknown-key]
        if not allowance.allowed:
            raise Refusal(
                429,
                "rate_limited",
                f"This key may ask {allowance.limit} times a minute.",
                headers={"Retry-After": str(allowance.reset_s)},
            )

    def _note_use(self, key: KeyDoc) -> None:
        """Say that it was used, unless that was said within the hour."""
        now = self._now()
        said = max((at for at in (key.last_used_at, self._noted_at.get(key.id)) if at), default=None)
        if said is None or now - said >= USE_NOTED_EVERY + timedelta(seconds=1):
            self._noted_at[key.id] = now
            self._used(key.id)


def check_origin(connection: Connection) -> None:
    """A browser may change something only from a page of ours: another site's cannot forge its Origin.

    A WebSocket, which has no method, changes something: browsers open it for any site.
    """
    if connection.scope.get("method") in SAFE_METHODS:
        return
    origin, host = connection.headers.get("origin", ""), connection.headers.get("host", "")
    if origin not in {f"http://{host}", f"https://{host}"}:
        raise Refusal(
            403, "origin_refused", f"The request comes from {origin or 'nowhere'}, not from {host}."
        )


def _check_scope(principal: Principal, handler: BaseRouteHandler) -> None:
    says = handler.opt.get(SAYS)
    if says is not None and says.scope:
        _check(principal, says.scope)


def _check(principal: Principal, scope: str) -> None:
    if not principal.may(scope):
        raise Refusal(403, "scope_missing", f"This needs the scope {scope}; the key has it not.")


def source_of(connection: Connection) -> str:
    """Where a request comes from."""
    client = connection.scope["client"]
    return client[0] if client else "unknown"


def _unauthorized(code: str, detail: str) -> Refusal:
    return Refusal(401, code, detail, headers=_CHALLENGE)
