"""`hive performance`: what is known of a bot, or of a type of task; forget it, export it."""

from typing import Final

import click

from cli import screen
from cli.client import decode
from cli.failure import Exit, Failure
from cli.session import Session, talking
from cli.words import one_of
from shared.contracts.scheduler.queries import BotPerformance, Performance, TypePerformance
from shared.contracts.words import TaskType

COLUMNS: Final = (
    *("score", "success", "speed", "confidence", "samples", "trend", "run", "tokens", "cost", "last"),
)
SPARE: Final = ("last", "tokens", "confidence", "speed")


class _Shows(click.Group):
    """A noun whose bare form shows: `hive performance alpha` is `hive performance show alpha`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word there that was left out."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Shows, no_args_is_help=True)
def performance() -> None:
    """Show how good a bot is (`hive performance BOT`), or how a type of task goes (`--type T`)."""


@performance.command()
@talking
@click.argument("bot", required=False)
@click.option("--type", "task_type", type=one_of(TaskType), help="All bots at this type of task.")
def show(session: Session, *, bot: str | None, task_type: str | None) -> None:
    """Show what is known of a bot, or of all bots at a type of task."""
    if (bot is None) == (task_type is None):
        raise Failure(
            "Say which bot, or which type of task.",
            exit_code=Exit.USAGE,
            code="which",
            todo="`hive performance alpha`, or `hive performance --type code`",
        )
    path = f"/v1/bots/{bot}/performance" if bot is not None else f"/v1/task-types/{task_type}/performance"
    with session.client() as client:
        answer = client.get(path)
    if session.as_json:
        screen.document(answer.content)
    elif bot is not None:
        _of_bot(decode(answer, BotPerformance))
    else:
        told = decode(answer, TypePerformance)
        rows = [(known.bot, *_row(known)) for known in told.bots]
        screen.table(("bot", *COLUMNS), rows, empty=f"No {told.type} task has ended yet.", spare=SPARE)
        spread = ", ".join(f"{name} {screen.duration(value)}" for name, value in told.run_s.items())
        if spread:
            click.echo(f"the last {told.recent} completed ones ran: {spread}", err=True)


@performance.command()
@talking
@click.argument("bot")
@click.option("--type", "task_type", type=one_of(TaskType), help="Only at this type of task.")
def reset(session: Session, *, bot: str, task_type: str | None) -> None:
    """Forget how good a bot is: it counts as average until enough of its tasks have ended anew."""
    with session.client() as client:
        answer = client.post(f"/v1/bots/{bot}/performance/reset", {"type": task_type})
    if session.as_json:
        screen.document(answer.content)
        return
    what = "all types" if task_type is None else f"type {task_type}"
    click.echo(f"what was known of {bot} at {what} of task is forgotten")


@performance.command()
@talking
@click.option("--format", "form", type=click.Choice(("jsonl", "csv")), default="jsonl", show_default=True)
def export(session: Session, *, form: str) -> None:
    """Print all that is known: a line for each bot and type of task."""
    with session.client() as client:
        answer = client.get("/v1/performance/export", format="jsonl" if session.as_json else form)
    click.echo(answer.content.decode(), nl=False)


def _of_bot(told: BotPerformance) -> None:
    rows = [(known.type, *_row(known)) for known in told.types]
    screen.table(("type", *COLUMNS), rows, empty=f"No task of {told.bot} has ended yet.", spare=SPARE)


def _row(known: Performance) -> tuple[object, ...]:
    return (
        f"{known.score:.2f}" if known.trusted else f"({known.score:.2f})",
        f"{known.success:.0%}",
        f"{known.speed:.0%}",
        f"{known.confidence:.0%}",
        known.samples,
        known.trend,
        screen.duration(known.run_s),
        f"{known.tokens:.0f}" if known.tokens else "",
        f"${known.cost_usd:.4f}" if known.cost_usd else "",
        known.last_at,
    )
