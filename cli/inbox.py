"""`hive inbox`, `hive read`, `hive conversation`: what was said, and what is still to be read."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import click
import msgspec

from cli import messages, screen
from cli.client import Client, decode
from cli.listing import PAGE_MAX, fetch
from cli.session import Session, talking
from cli.settling import settled
from cli.words import one_of
from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import Priority

STATES: Final = ("pending", "delivered", "read", "failed", "expired")


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """An inbox; its counts are of all that is in it."""

    items: list[msgspec.Raw]
    unread: int
    pending: int
    next_cursor: str | None = None


@click.command()
@talking
@click.argument("bot", metavar="[BOT]", required=False)
@click.option("--unread", is_flag=True, help="Only what nobody has read.")
@click.option("--priority", type=one_of(Priority), help="Only those of this priority.")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def inbox(
    session: Session,
    *,
    bot: str | None,
    unread: bool,
    priority: str | None,
    state: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """What was sent to a bot, newest first; without BOT, to yourself. Exit 3 when there is no such bot."""
    path = "/v1/inbox" if bot is None else f"/v1/bots/{quote(bot, safe='')}/inbox"
    wanted = {"unread": unread or None, "priority": priority, "state": state}
    with session.client() as client:
        box = _fetch(client, path, limit, cursor, wanted)
    if session.as_json:
        screen.document(box)
        return
    _show([msgspec.json.decode(item, type=MessageDoc) for item in box.items], box.next_cursor)
    click.echo(f"{box.unread:,} unread, {box.pending:,} of them on their way", err=True)


def _fetch(client: Client, path: str, limit: int, cursor: str | None, wanted: Mapping[str, object]) -> Inbox:
    items: list[msgspec.Raw] = []
    while True:
        asked = min(PAGE_MAX, limit - len(items))
        box = decode(client.get(path, limit=asked, cursor=cursor, **wanted), Inbox)
        items += box.items
        cursor = box.next_cursor
        if cursor is None or len(items) >= limit:
            return msgspec.structs.replace(box, items=items)


@click.command()
@talking
@click.argument("message_ids", metavar="MESSAGE_ID…", nargs=-1, required=True)
def read(session: Session, *, message_ids: tuple[str, ...]) -> None:
    """Mark messages as read, and show them. Exit 4 when one was not delivered yet, or has ended unread."""
    with session.client() as client:
        for number, message_id in enumerate(message_ids):
            asked = client.post(f"/v1/messages/{quote(message_id, safe='')}/read")
            answer = settled(client, asked, "message", "hive message show")
            if session.as_json:
                screen.line(answer.content)
                continue
            message = decode(answer, MessageDoc)
            if number:
                click.echo()
            click.echo(f"{message.sender} to {message.recipient}, {screen.words(message.sent_at)}", err=True)
            screen.text(message.content)


@click.command()
@talking
@click.argument("one")
@click.argument("other")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def conversation(session: Session, *, one: str, other: str, limit: int, cursor: str | None) -> None:
    """What two said to each other, newest first: bots by name, people as @ and the name of their key."""
    path = f"/v1/conversations/{quote(one, safe='')}/{quote(other, safe='')}"
    with session.client() as client:
        listed = fetch(client, path, limit=limit, cursor=cursor)
    if session.as_json:
        screen.document(listed)
    else:
        _show(listed.typed(MessageDoc), listed.next_cursor)


def _show(found: list[MessageDoc], next_cursor: str | None) -> None:
    rows = [messages.row(message) for message in found]
    screen.table(messages.COLUMNS, rows, empty="No messages.", spare=messages.SPARE)
    if next_cursor is not None:
        click.echo(f"More: add --cursor {next_cursor}", err=True)
