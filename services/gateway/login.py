"""How a browser gets in: a link that opens once, then a cookie; and how it leaves."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from litestar import Request, Response, Router, get, post
from litestar.datastructures import Cookie
from litestar.handlers import HTTPRouteHandler

from services.gateway.access import COOKIE, check_origin, hash_of
from services.gateway.projection import LOGIN, SESSION, Keys, is_open
from shared.contracts.gateway import CreateKey, KeyDoc, RevokeKey
from shared.contracts.words import KeyId
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Committed
from shared.runtime.answers import settled
from shared.runtime.commands import Send
from shared.runtime.ids import new_id, short_token
from shared.runtime.problems import Refusal

SESSION_FOR: Final = timedelta(hours=12)
_HTML: Final = "text/html"
_PAGE: Final = b"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="0;url=/"><title>Hive</title>
<p>%b <a href="/">On to Hive.</a></p></html>"""
# The page leads on by itself, not a redirect: a Strict cookie would not go with one that began elsewhere.


def login_routes(
    keys: Keys, send: Send, *, now: Callable[[], datetime], seen: Callable[[int], Awaitable[None]]
) -> list[HTTPRouteHandler | Router]:
    """`GET /login?token=…` and `POST /logout`."""

    @get("/login")
    async def login(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Open a session with the token of a login link, once."""
        token = parse_qs(request.scope["query_string"].decode("latin-1")).get("token", [""])[0]
        link = keys.find(hash_of(token))
        if link is None or link.kind != LOGIN:
            raise Refusal(401, "login_unknown", "There is no such login link. Make another one.")
        if link.revoked_at is not None:
            raise _used()
        if not is_open(link, now()):
            raise Refusal(401, "login_expired", "The login link has expired. Make another one.")
        used = await send(RevokeKey(key_id=link.id, reason="used"), actor=f"key:{link.id}")
        if used is None:
            raise Unavailable("the login link was not decided in time")
        settled(used)
        if not isinstance(used, Committed):
            raise _used()
        secret = await _session(link)
        cookie = Cookie(
            key=COOKIE,
            value=secret,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            max_age=int(SESSION_FOR.total_seconds()),
        )
        return Response(_PAGE % b"You are in.", media_type=_HTML, cookies=[cookie], headers=_PRIVATE)

    async def _session(link: KeyDoc) -> str:
        secret = f"hive_session_{short_token(32)}"
        ends, maker = now() + SESSION_FOR, keys.maker(link)
        if maker is not None and maker.expires_at is not None:
            ends = min(ends, maker.expires_at)
        made = await send(
            CreateKey(
                key_id=KeyId(new_id()),
                name=link.name,
                kind=SESSION,
                prefix=secret[:16],
                secret_hash=hash_of(secret),
                scopes=link.scopes,
                rate_per_minute=link.rate_per_minute,
                expires_at=ends,
            ),
            actor=f"key:{link.id}",
        )
        if made is None:
            raise Unavailable("the session was not decided in time: make another login link")
        await seen(settled(made))
        return secret

    @post("/logout")
    async def logout(request: Request[Any, Any, Any]) -> Response[bytes]:
        """End the browser's session."""
        check_origin(request)
        session = keys.find(hash_of(request.cookies.get(COOKIE, "")))
        if session is not None and session.kind == SESSION:
            await send(RevokeKey(key_id=session.id, reason="logout"), actor=f"key:{session.id}")
        gone = Cookie(key=COOKIE, value="", path="/", httponly=True, samesite="strict", max_age=0)
        return Response(
            _PAGE % b"You are out.", status_code=200, media_type=_HTML, cookies=[gone], headers=_PRIVATE
        )

    return [login, logout]


def _used() -> Refusal:
    return Refusal(
        401, "login_used", "The login link was used before, or its key was revoked. Make another one."
    )


_PRIVATE: Final = {"Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'none'"}
