"""`hive message`: one message."""

from urllib.parse import quote

import click

from cli import messages, screen
from cli.client import decode
from cli.session import Session, talking
from cli.settling import settled
from shared.contracts.messenger.queries import MessageDoc


@click.group()
def message() -> None:
    """Look at one message."""


@message.command()
@talking
@click.argument("message_id", metavar="ID")
def show(session: Session, *, message_id: str) -> None:
    """Everything about one message. Exit 3 when there is none of that id."""
    with session.client() as client:
        asked = client.get(f"/v1/messages/{quote(message_id, safe='')}")
        answer = settled(client, asked, "message", "hive message show")
    told = decode(answer, MessageDoc)
    if session.as_json:
        screen.document(answer.content)
    else:
        screen.fields(messages.fields(told))
        click.echo()
        screen.text(told.content)
