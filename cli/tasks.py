"""`hive tasks`: which tasks there are."""

from typing import Final

import click

from cli import screen
from cli.documents import took_s
from cli.listing import fetch
from cli.session import Session, talking
from cli.words import one_of
from shared.contracts.orchestrator.queries import TaskDoc
from shared.contracts.words import Priority, TaskType

STATES: Final = (
    "waiting",
    "queued",
    "assigned",
    "running",
    "retrying",
    "blocked",
    "completed",
    "failed",
    "cancelled",
    "expired",
)
COLUMNS: Final = ("id", "state", "type", "priority", "bot", "took", "content")


@click.command()
@talking
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--type", "task_type", type=one_of(TaskType), help="Only those of this type.")
@click.option("--bot", help="Only those this bot has or had last.")
@click.option("--priority", type=one_of(Priority), help="Only those of this priority.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def tasks(
    session: Session,
    *,
    state: str | None,
    task_type: str | None,
    bot: str | None,
    priority: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List tasks, newest first."""
    wanted = {"state": state, "type": task_type, "bot": bot, "priority": priority}
    with session.client() as client:
        listed = fetch(client, "/v1/tasks", limit=limit, cursor=cursor, **wanted)
    if session.as_json:
        screen.document(listed)
        return
    rows = [
        (task.id, task.state, task.type, task.priority, task.bot, screen.duration(took_s(task)), task.content)
        for task in listed.typed(TaskDoc)
    ]
    screen.table(COLUMNS, rows, empty="No tasks.", spare=("type", "took", "priority", "bot"))
    if listed.next_cursor is not None:
        click.echo(f"More: add --cursor {listed.next_cursor}", err=True)
