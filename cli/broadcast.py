"""`hive broadcast`: the same message to many bots, and what became of it."""

import time
from typing import Any, Final

import click
import httpx

from cli import screen
from cli.client import Client, decode
from cli.failure import Exit
from cli.patience import AGAIN_AFTER_S, patiently
from cli.session import Session, talking
from cli.settling import settled
from cli.words import DURATION, WAIT, WaitAlone, one_of
from shared.contracts.messenger.queries import DeliverySummary
from shared.contracts.words import MessageKind, Priority, TaskType
from shared.runtime import clock

ORDER: Final = ("read", "delivered", "pending", "failed", "expired")


@click.command(cls=WaitAlone)
@talking
@click.argument("text", metavar="TEXT")
@click.option("--pool", help="To the bots of this pool.")
@click.option("--type", "task_type", type=one_of(TaskType), help="To those that do this type of task.")
@click.option("to_all", "--all", is_flag=True, help="To every bot.")
@click.option("--from", "sender", metavar="BOT", help="As this bot; default: as yourself.")
@click.option("--priority", type=one_of(Priority), default="P2", show_default=True)
@click.option("--ttl", type=DURATION, help="How long it is worth delivering: 60s, 2h. Default: 1h.")
@click.option("--chat", is_flag=True, help="Each bot's engine answers it.")
@click.option("--key", metavar="KEY", help="Idempotency key: asked twice with it, sent once.")
@click.option("--wait", type=WAIT, metavar="[SECONDS]", help="Wait until every bot has it, or cannot get it.")
def broadcast(
    session: Session,
    *,
    text: str,
    pool: str | None,
    task_type: str | None,
    to_all: bool,
    sender: str | None,
    priority: str,
    ttl: float | None,
    chat: bool,
    key: str | None,
    wait: float | None,
) -> None:
    """Send the same to many bots: one of --pool, --type, --all.

    With --wait it ends with 0 when all have it, 1 when a message failed or expired, 4 when a bot could not be
    sent one, 6 when some are still on their way.
    """
    if (pool is not None) + (task_type is not None) + to_all != 1:
        raise click.UsageError(
            'say to whom: hive broadcast --all "freeze at noon", or --pool NAME, or --type T.'
        )
    body: dict[str, Any] = {
        "content": text,
        "from": sender,
        "pool": pool,
        "type": task_type,
        "all": to_all or None,
        "priority": priority,
        "ttl_s": ttl,
        "kind": MessageKind.CHAT if chat else None,
    }
    headers = {} if key is None else {"Idempotency-Key": key}
    asked = {name: value for name, value in body.items() if value is not None}
    with session.client() as client:
        answer = settled(
            client, client.post("/v1/broadcasts", asked, headers=headers), "broadcast", "hive messaging"
        )
        if wait is not None:
            answer = _until_spread(client, answer, wait, quiet=session.as_json)
    summary = decode(answer, DeliverySummary)
    if session.as_json:
        screen.document(answer.content)
    else:
        _tell(summary)
    if wait is not None:
        raise SystemExit(exit_of(summary))


def _until_spread(client: Client, answer: httpx.Response, wait_s: float, *, quiet: bool) -> httpx.Response:
    """The summary when nothing is on its way any more, or as it is when the wait is over."""
    deadline = clock.monotonic() + wait_s
    summary = decode(answer, DeliverySummary)
    place = f"/v1/broadcasts/{summary.id}"
    with screen.progress("delivering", summary.recipients, quiet=quiet) as done:
        shown = 0
        while on_their_way(summary) and clock.monotonic() < deadline:
            there = summary.recipients - on_their_way(summary)
            done(there - shown)
            shown = there
            time.sleep(min(AGAIN_AFTER_S, max(0.0, deadline - clock.monotonic())))
            answer = patiently(lambda: client.get(place))
            summary = decode(answer, DeliverySummary)
    return answer


def on_their_way(summary: DeliverySummary) -> int:
    """How many of its messages a bot may yet get."""
    return summary.missing + summary.states.get("pending", 0)


def exit_of(summary: DeliverySummary) -> Exit:
    """What became of it as an exit code."""
    if on_their_way(summary):
        return Exit.STILL_RUNNING
    if summary.states.get("failed", 0) + summary.states.get("expired", 0):
        return Exit.FAILED
    return Exit.REFUSED if summary.refused else Exit.OK


def _tell(summary: DeliverySummary) -> None:
    click.echo(summary.id)
    states = [f"{summary.states[state]:,} {state}" for state in ORDER if summary.states.get(state)]
    if summary.missing:
        states.append(f"{summary.missing:,} not accepted yet")
    if summary.refused:
        states.append(f"{len(summary.refused):,} refused")
    bots = "bot" if summary.recipients == 1 else "bots"
    click.echo(
        f"to {summary.recipients:,} {bots} ({screen.safe(summary.selection)}): {', '.join(states)}", err=True
    )
    for bot, reason in summary.refused.items():
        click.echo(f"  {bot}: {screen.safe(reason)}", err=True)
