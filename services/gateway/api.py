"""The keys over HTTP, and login links: who may come in."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from shared.contracts.gateway import (
    KEY_NAME_CHARS_MAX,
    CreateKey,
    GetKey,
    KeyDoc,
    KeyPage,
    ListKeys,
    RevokeKey,
    is_key_name,
)
from shared.contracts.words import KeyId, is_name
from shared.kernel.errors import NotFound, Unavailable
from shared.runtime.answers import Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import ADMIN, Doors, Principal, Seams, principal_of
from shared.runtime.ids import new_id, short_token
from shared.runtime.openapi import AT_LEAST, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given
from shared.runtime.problems import Refusal, Wrong

LOGIN_WITHIN: Final = timedelta(minutes=10)
PREFIX_CHARS: Final = 9
KEYS_WRITE: Final = "keys:write"


class Scope(StrEnum):
    """What a key may do; `admin` is everything."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    BOTS_READ = "bots:read"
    BOTS_WRITE = "bots:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    DLQ_WRITE = "dlq:write"
    KEYS_WRITE = "keys:write"
    ADMIN = "admin"


MESSAGES: Final = frozenset({Scope.MESSAGES_READ, Scope.MESSAGES_WRITE})
Scopes = Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=len(Scope))]
Rate = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | msgspec.UnsetType | None
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_NAME_CHARS_MAX)]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made. Without `rate_per_minute` it has the bots' limit, an admin key none; null: none."""

    name: KeyName
    scopes: Scopes = (Scope.TASKS_READ, Scope.TASKS_WRITE, Scope.BOTS_READ)
    rate_per_minute: Rate = msgspec.UNSET
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made. `key` is its secret: it is told now, and never again."""

    id: KeyId
    key: str
    name: str
    scopes: tuple[str, ...]
    version: int
    rate_per_minute: int | None
    expires_at: datetime | None


class NewLoginLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link that opens one browser session, with these scopes."""

    scopes: Scopes = (Scope.ADMIN,)


class LoginLink(msgspec.Struct, frozen=True, kw_only=True):
    """Open `url` in a browser: it works once, until `expires_at`."""

    url: str
    expires_at: datetime


class KeysAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys."""

    ended: bool = False
    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}(?!\n)$")] | msgspec.UnsetType = msgspec.UNSET
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


NEW_KEY: Final = Body(NewKey)
NEW_LINK: Final = Body(NewLoginLink, default=NewLoginLink())
KEYS_ASKED: Final = Parameters(KeysAsked)
_KEY: Final = {200: Says(meaning="The key.", form=KeyDoc, headers=("Hive-Version",))}
_PENDING: Final = Says(meaning="Stored, not decided yet.", form=Pending, headers=("Location", "Retry-After"))


@post(
    "/keys",
    says=Operation(
        summary="Make a key",
        scope=KEYS_WRITE,
        body=NEW_KEY,
        problems=(422,),
        answers={201: Says(meaning="The key, and its secret.", form=MadeKey, headers=("Hive-Version",))},
    ),
)
async def create_key(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """A key can give away no more than what it may itself. The secret is told once."""
    caller = principal_of(request)
    asked = await NEW_KEY.read(request)
    _only_what_one_has(caller, asked.scopes)
    _can_be_a_name(asked.name)
    await _nobody_elses_name(doors, caller, asked)
    rate = asked.rate_per_minute
    if rate is msgspec.UNSET:
        rate = None if ADMIN in asked.scopes else doors.config().bot_key_requests_per_minute
    elif rate is None and not caller.may(ADMIN):
        wrong = Wrong(detail="Only an admin key makes keys without a limit.", pointer="/rate_per_minute")
        raise Refusal(403, "scope_missing", wrong.detail, errors=(wrong,))
    if asked.expires_at is not None and asked.expires_at <= doors.now():
        wrong = Wrong(detail="A key must expire in the future, or never.", pointer="/expires_at")
        raise Refusal(422, "expires_in_the_past", wrong.detail, errors=(wrong,))
    secret = f"hive_{short_token(32)}"
    wish = CreateKey(
        key_id=KeyId(new_id()),
        name=asked.name,
        kind="api",
        prefix=secret[:PREFIX_CHARS],
        secret_hash=sha256(secret.encode()).hexdigest(),
        scopes=tuple(asked.scopes),
        rate_per_minute=rate,
        expires_at=asked.expires_at,
    )
    version = await _made(doors, wish, caller)
    made = MadeKey(
        id=wish.key_id,
        key=secret,
        name=wish.name,
        scopes=wish.scopes,
        version=version,
        rate_per_minute=rate,
        expires_at=wish.expires_at,
    )
    return document(made, status=201, version=version)


@get(
    "/keys",
    says=Operation(
        summary="List keys",
        scope=KEYS_WRITE,
        query=KEYS_ASKED,
        headers=(AT_LEAST,),
        answers={200: Says(meaning="Keys, newest first.", form=KeyPage)},
        problems=(409,),
    ),
)
async def list_keys(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Those that open nothing any more only with `ended=true`."""
    asked = KEYS_ASKED.read(request)
    keys = await doors.ask(
        ListKeys(ended=asked.ended, cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request))
    )
    return document(keys)


@get(
    "/keys/{key_id:str}",
    says=Operation(
        summary="Show a key", scope=KEYS_WRITE, headers=(AT_LEAST,), answers=_KEY, problems=(409,)
    ),
)
async def show_key(request: Request[Any, Any, Any], doors: Seams, key_id: FromPath[str]) -> Response[bytes]:
    """Never its secret."""
    key = await doors.ask(GetKey(key_id=_named(key_id), at_least=at_least(request)))
    return document(key, version=key.version)


@delete(
    "/keys/{key_id:str}",
    status_code=200,
    says=Operation(
        summary="Revoke a key", scope=KEYS_WRITE, answers={**_KEY, 202: _PENDING}, problems=(409,)
    ),
)
async def revoke_key(request: Request[Any, Any, Any], doors: Seams, key_id: FromPath[str]) -> Response[bytes]:
    """From now on it opens nothing. Only an admin key may revoke one that may more than itself."""
    caller = principal_of(request)
    key = await doors.ask(GetKey(key_id=_named(key_id)))
    _only_what_one_has(caller, key.scopes)
    wait_s = doors.config().answer_wait_s
    outcome = await doors.send(RevokeKey(key_id=key.id), actor=caller.actor, wait_s=wait_s)
    if outcome is None:
        return pending(f"/v1/keys/{key.id}", key.id)
    version = settled(outcome)
    revoked = await doors.ask(GetKey(key_id=key.id, at_least=version))
    return document(revoked, version=version)


@post(
    "/login-links",
    says=Operation(
        summary="Make a login link",
        scope=ADMIN,
        body=NEW_LINK,
        answers={201: Says(meaning="The link.", form=LoginLink)},
    ),
)
async def create_login_link(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """It opens one browser session, within ten minutes."""
    caller = principal_of(request)
    asked = await NEW_LINK.read(request)
    token = f"hive_login_{short_token(32)}"
    expires_at = doors.now() + LOGIN_WITHIN
    wish = CreateKey(
        key_id=KeyId(new_id()),
        name=caller.name,
        kind="login",
        prefix=token[: PREFIX_CHARS + len("login_")],
        secret_hash=sha256(token.encode()).hexdigest(),
        scopes=tuple(asked.scopes),
        expires_at=expires_at,
    )
    await _made(doors, wish, caller)
    url = f"{request.url.scheme}://{request.url.netloc}/login?token={token}"
    return document(LoginLink(url=url, expires_at=expires_at), status=201)


async def _made(doors: Doors, wish: CreateKey, caller: Principal) -> int:
    """The version at which the key is there, and known to who answers here."""
    outcome = await doors.send(wish, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        raise Unavailable("it was not decided in time, and its secret is lost: ask for another one")
    version = settled(outcome)
    await doors.ask(GetKey(key_id=wish.key_id, at_least=version))
    return version


def _can_be_a_name(name: str) -> None:
    """It stands in paths and in lists, as the person of that name."""
    if not is_key_name(name):
        wrong = Wrong(detail="A name has no `/` and no characters that cannot be printed.", pointer="/name")
        raise Refusal(422, "bad_name", wrong.detail, errors=(wrong,))


async def _nobody_elses_name(doors: Doors, caller: Principal, asked: NewKey) -> None:
    """Messages are a person's, and a person is the name of a key: who takes a name gets its letters."""
    if caller.may(ADMIN) or asked.name == caller.name or MESSAGES.isdisjoint(asked.scopes):
        return
    if (await doors.ask(ListKeys(ended=True, name=asked.name, limit=1))).items:
        wrong = Wrong(detail="There is a key of this name; only an admin key makes another.", pointer="/name")
        raise Refusal(403, "name_taken", wrong.detail, errors=(wrong,))


def _only_what_one_has(caller: Principal, scopes: Iterable[str]) -> None:
    missing = sorted(scope for scope in scopes if not caller.may(scope))
    if missing:
        raise Refusal(
            403, "scope_missing", f"This needs the scopes {', '.join(missing)}; the key has them not."
        )


def _named(key_id: str) -> KeyId:
    if not is_name(key_id):
        raise NotFound("key_not_found", "there is no such key")
    return KeyId(key_id)


ROUTES: Final = (create_key, list_keys, show_key, revoke_key, create_login_link)
