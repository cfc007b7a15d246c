"""`hive login`: into the browser."""

import click

from cli import screen
from cli.banner import LoginLink
from cli.client import decode
from cli.session import Session, talking


@click.command()
@talking
def login(session: Session) -> None:
    """Print a fresh login link: it works once, and soon no more."""
    with session.client() as client:
        answer = client.post("/v1/login-links")
    if session.as_json:
        screen.document(answer.content)
    else:
        click.echo(decode(answer, LoginLink).url)
