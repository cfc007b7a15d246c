"""`hive dlq`: what a service could not handle."""

from typing import assert_never

import click
import msgspec

from cli import screen
from cli.client import Client, decode
from cli.failure import Exit
from cli.listing import PAGE_MAX
from cli.main import Nouns
from cli.session import Session, talking
from shared.contracts.dead import DeadLetter
from shared.kernel.messages import AlreadySo, Committed, Failed, Outcome, Refused


@click.group(cls=Nouns)
def dlq() -> None:
    """Look at, replay or drop what could not be handled."""


class Letters(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /v1/dlq; `unavailable` are the services that did not tell of theirs."""

    items: list[DeadLetter]
    unavailable: list[str] = []
    next_cursor: str | None = None


def _fetch(client: Client, limit: int, *, state: str | None, cursor: str | None) -> Letters:
    """Up to `limit` letters, page after page."""
    items: list[DeadLetter] = []
    away: set[str] = set()
    while True:
        asked = min(PAGE_MAX, limit - len(items))
        page = decode(client.get("/v1/dlq", limit=asked, state=state, cursor=cursor), Letters)
        items += page.items
        away |= set(page.unavailable)
        cursor = page.next_cursor
        if cursor is None or len(items) >= limit:
            return Letters(items=items, unavailable=sorted(away), next_cursor=cursor)


@dlq.command("list")
@talking
@click.option("--state", type=click.Choice(["dead", "replayed", "dropped"]), help="Default: dead.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def list_letters(session: Session, *, state: str | None, limit: int, cursor: str | None) -> None:
    """List dead letters, newest first."""
    with session.client() as client:
        letters = _fetch(client, limit, state=state, cursor=cursor)
    if session.as_json:
        screen.document(letters)
        return
    rows = [
        (letter.id, letter.service, letter.state, letter.at, letter.attempts, _about(letter), letter.reason)
        for letter in letters.items
    ]
    columns = ("id", "service", "state", "at", "attempts", "about", "reason")
    screen.table(columns, rows, empty="No dead letters.", spare=("state", "attempts", "at", "service"))
    for service in letters.unavailable:
        click.echo(f"{service} does not tell of its own: it is away.", err=True)
    if letters.next_cursor is not None:
        click.echo(f"More: add --cursor {letters.next_cursor}", err=True)


class _Undelivered(msgspec.Struct, tag="ReplayMessage", tag_field="command"):
    """A message that failed: its letter's replay would send it again."""

    sender: str
    recipient: str
    content: str


class _Body(msgspec.Struct):
    command: _Undelivered


def _about(letter: DeadLetter) -> str:
    """What lies there: a message in its own words, anything else by its subject."""
    try:
        lost = msgspec.json.decode(letter.body, type=_Body).command
    except (msgspec.DecodeError, UnicodeDecodeError):
        return letter.subject
    return f"{lost.sender} to {lost.recipient}: {screen.first_line(lost.content)}"


@dlq.command()
@talking
@click.argument("letter_id", metavar="ID")
def show(session: Session, *, letter_id: str) -> None:
    """What it was, and why it could not be handled."""
    with session.client() as client:
        answer = client.get(f"/v1/dlq/{letter_id}")
    if session.as_json:
        screen.document(answer.content)
        return
    letter = decode(answer, DeadLetter)
    screen.fields(
        [
            ("id", letter.id),
            ("service", letter.service),
            ("state", letter.state),
            ("reason", letter.reason),
            ("attempts", letter.attempts),
            ("at", letter.at),
            ("about", _about(letter)),
            ("subject", letter.subject),
            *((name, value) for name, value in letter.headers.items()),
        ]
    )
    click.echo()
    screen.text(letter.body)


@dlq.command()
@talking
@click.argument("letter_ids", metavar="ID…", nargs=-1, required=True)
def replay(session: Session, *, letter_ids: tuple[str, ...]) -> None:
    """Decide it again now, as the sender it came from. Exit 4 when it is refused, 1 when it failed again."""
    worst = Exit.OK
    with session.client() as client:
        for letter_id in letter_ids:
            answer = client.post(f"/v1/dlq/{letter_id}/replay")
            told, code = _meaning(decode(answer, Outcome))
            worst = code or worst
            if session.as_json:
                screen.line(answer.content)
            else:
                click.echo(f"{letter_id}  {screen.safe(told)}")
    raise SystemExit(worst)


def _meaning(outcome: Outcome) -> tuple[str, Exit]:
    match outcome:
        case Committed():
            return f"decided, at {outcome.sequence}", Exit.OK
        case AlreadySo():
            return "nothing to be decided: it is so already", Exit.OK
        case Refused():
            return f"refused: {outcome.detail} ({outcome.code})", Exit.REFUSED
        case Failed():
            return f"failed again: {outcome.detail}", Exit.FAILED
        case _:
            assert_never(outcome)


@dlq.command()
@talking
@click.argument("letter_ids", metavar="ID…", nargs=-1, required=True)
def drop(session: Session, *, letter_ids: tuple[str, ...]) -> None:
    """Give it up."""
    with session.client() as client:
        for letter_id in letter_ids:
            answer = client.post(f"/v1/dlq/{letter_id}/drop")
            if session.as_json:
                screen.line(answer.content)
            else:
                click.echo(f"{letter_id}  {decode(answer, DeadLetter).state}")
