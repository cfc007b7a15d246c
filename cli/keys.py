"""`hive keys`: who may do what over HTTP."""

from typing import Final

import click
import msgspec

from cli import screen
from cli.client import decode
from cli.listing import fetch
from cli.main import Nouns
from cli.session import Session, talking
from cli.words import moment
from shared.contracts.gateway import KeyDoc
from shared.runtime import clock

ACCEPTED: Final = 202
SCOPES: Final = (
    "tasks:read",
    "tasks:write",
    "bots:read",
    "bots:write",
    "messages:read",
    "messages:write",
    "dlq:write",
    "keys:write",
    "admin",
)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/keys: the only time the secret is told."""

    id: str
    key: str


@click.group(cls=Nouns)
def keys() -> None:
    """Create, list, revoke access keys."""


@keys.command("list")
@talking
@click.option("--ended", is_flag=True, help="Those that open nothing any more, too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True)
def list_keys(session: Session, *, ended: bool, limit: int) -> None:
    """List keys, newest first; their secrets are known to nobody here."""
    with session.client() as client:
        listed = fetch(client, "/v1/keys", limit=limit, ended=ended or None)
    if session.as_json:
        screen.document(listed)
        return
    rows = [
        (key.id, key.name, key.kind, key.prefix, key.scopes, key.expires_at, key.last_used_at, key.revoked_at)
        for key in listed.typed(KeyDoc)
    ]
    columns = ("id", "name", "kind", "begins", "scopes", "expires", "last used", "revoked")
    screen.table(columns, rows, empty="No keys.", spare=("revoked", "begins", "last used", "kind", "expires"))


@keys.command()
@talking
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=("tasks:read", "tasks:write", "bots:read"),
    show_default=True,
)
@click.option("--expires", metavar="MOMENT", help="RFC 3339, or a length of time from now: 30d.")
@click.option("--rate", type=click.IntRange(1), metavar="N", help="Requests a minute at most; default: 100.")
@click.option("--no-limit", is_flag=True, help="No limit: only an admin can give that.")
def create(
    session: Session,
    *,
    name: str,
    scopes: tuple[str, ...],
    expires: str | None,
    rate: int | None,
    no_limit: bool,
) -> None:
    """Make a key; its secret is printed now and never again."""
    body: dict[str, object] = {"name": name, "scopes": list(scopes)}
    if expires is not None:
        body["expires_at"] = moment(expires, clock.now())
    if rate is not None or no_limit:
        body["rate_per_minute"] = rate
    with session.client() as client:
        answer = client.post("/v1/keys", body)
    if session.as_json:
        screen.document(answer.content)
        return
    made = decode(answer, NewKey)
    click.echo(made.key)
    click.echo(
        f"Key {made.id} ({name}): keep it, it is not shown again. `export HIVE_KEY=…` uses it.", err=True
    )


@keys.command()
@talking
@click.argument("key_ids", metavar="ID…", nargs=-1, required=True)
def revoke(session: Session, *, key_ids: tuple[str, ...]) -> None:
    """From now on it opens nothing."""
    with session.client() as client:
        for key_id in key_ids:
            answer = client.delete(f"/v1/keys/{key_id}")
            if session.as_json:
                screen.line(answer.content)
            elif answer.status_code == ACCEPTED:
                click.echo(f"{key_id}  stored; it will be revoked when the gateway has decided it")
            else:
                click.echo(f"{key_id}  revoked")
