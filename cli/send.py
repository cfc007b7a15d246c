"""`hive send`: a message to a bot or to a person."""

import sys
from typing import Any

import click

from cli import messages, screen
from cli.client import decode
from cli.session import Session, talking
from cli.settling import settled
from cli.words import DURATION, one_of
from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import DELIVERIES_MAX, MESSAGE_CHARS_MAX, MessageKind, Priority


@click.command()
@talking
@click.argument("words", metavar="[FROM] TO TEXT|-", nargs=-1)
@click.option("--priority", type=one_of(Priority), default="P2", show_default=True)
@click.option("--ttl", type=DURATION, help="How long it is worth delivering: 60s, 2h. Default: 1h.")
@click.option("--hold", is_flag=True, help="Keep it until a bot of that name exists.")
@click.option("--reply-to", metavar="ID", help="The message it answers.")
@click.option("--chat", is_flag=True, help="The bot's engine answers it; without, it lies in the inbox.")
@click.option(
    "--deliveries", type=click.IntRange(1, DELIVERIES_MAX), help="How often it is tried at most. Default: 3."
)
@click.option("--key", metavar="KEY", help="Idempotency key: asked twice with it, sent once.")
def send(
    session: Session,
    *,
    words: tuple[str, ...],
    priority: str,
    ttl: float | None,
    hold: bool,
    reply_to: str | None,
    chat: bool,
    deliveries: int | None,
    key: str | None,
) -> None:
    """Send a message: from a bot, or without FROM from yourself.

    `hive send alpha beta --priority P0 "the build is red"`; `-` reads the text from standard input.
    Exit 3 when there is no such recipient, 4 when it is refused, 5 when its inbox is full or nobody answers.
    """
    sender, to, text = _parts(words)
    body: dict[str, Any] = {
        "from": sender,
        "to": to,
        "content": _text(text),
        "priority": priority,
        "kind": MessageKind.CHAT if chat else None,
        "ttl_s": ttl,
        "in_reply_to": reply_to,
        "deliveries_max": deliveries,
        "hold": hold or None,
    }
    headers = {} if key is None else {"Idempotency-Key": key}
    with session.client() as client:
        asked = {name: value for name, value in body.items() if value is not None}
        answer = settled(
            client, client.post("/v1/messages", asked, headers=headers), "message", "hive message show"
        )
    if session.as_json:
        screen.document(answer.content)
        return
    message = decode(answer, MessageDoc)
    click.echo(message.id)
    click.echo(f"{messages.outcome(message)}; `hive message show {message.id}` follows it", err=True)


def _parts(words: tuple[str, ...]) -> tuple[str | None, str, str]:
    match len(words):
        case 2:
            return None, words[0], words[1]
        case 3:
            return words[0], words[1], words[2]
        case _:
            raise click.UsageError(
                'write to whom and what, such as hive send alpha "the build is red", or from whom, too: '
                'hive send alpha beta "the build is red". A text of several words stands in quotes.'
            )


def _text(text: str) -> str:
    told = sys.stdin.read() if text == "-" else text
    if not told:
        raise click.UsageError("the text is empty.")
    if len(told) > MESSAGE_CHARS_MAX:
        raise click.UsageError(
            f"a message has at most {MESSAGE_CHARS_MAX:,} characters, this one {len(told):,}."
        )
    return told
