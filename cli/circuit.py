"""`hive bots circuit`: give a bot nothing for a while, or give it tasks again."""

from typing import Any, Final

import click

from cli import screen
from cli.client import decode
from cli.documents import told_circuit
from cli.session import Session, talking
from shared.contracts.orchestrator.queries import BotDoc

ACCEPTED: Final = 202


@click.command()
@talking
@click.argument("name")
@click.argument("state", type=click.Choice(("open", "close")))
@click.option("for_s", "--for", type=click.FloatRange(0.05, 86_400), metavar="SECONDS", help="Open so long.")
@click.option("--reason", default="asked", show_default=True)
def circuit(session: Session, *, name: str, state: str, for_s: float | None, reason: str) -> None:
    """Give a bot nothing for a while, or give it tasks again whatever went wrong before."""
    if for_s is not None and state == "close":
        raise click.UsageError("--for is for `open`: a closed circuit stays closed until tasks fail.")
    body: dict[str, Any] = {"state": "open" if state == "open" else "closed", "reason": reason}
    if for_s is not None:
        body["for_s"] = for_s
    with session.client() as client:
        answer = client.post(f"/v1/bots/{name}/circuit", body)
    if session.as_json:
        screen.document(answer.content)
        return
    if answer.status_code == ACCEPTED:
        click.echo(f"{name}  stored; `hive bots show {name}` tells when it is decided")
        return
    click.echo(f"{name}  circuit {told_circuit(decode(answer, BotDoc).circuit)}")
