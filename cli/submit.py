"""`hive submit`: one task from the command line, or many from a file."""

import sys
from typing import IO, Any

import click

from cli import batch, screen
from cli.documents import exit_of, outcome
from cli.failure import Exit, Failure
from cli.session import Session, talking
from cli.waiting import Seen, decided, until_over, whole
from cli.words import DURATION, WAIT, WaitAlone, moment, one_of
from shared.contracts.words import INPUT_BYTES_MAX, AfterPolicy, Priority, SideEffects, TaskType
from shared.runtime import clock


@click.command(cls=WaitAlone)
@talking
@click.argument("content", metavar="TEXT|-", required=False)
@click.option("--type", "task_type", type=one_of(TaskType), help="Default: told from the text.")
@click.option("--priority", type=one_of(Priority), default="P2", show_default=True)
@click.option("--engine", help="Only a bot with this engine.")
@click.option("--bot", help="Only this bot.")
@click.option("--pool", help="Only a bot of this pool.")
@click.option("--timeout", type=DURATION, help="Longest time of one attempt: 60s, 5m.")
@click.option("--deadline", metavar="MOMENT", help="RFC 3339, or a length of time from now: 2h.")
@click.option("--after", multiple=True, metavar="ID[,ID…]", help="Only when these tasks have completed.")
@click.option(
    "--after-policy", type=one_of(AfterPolicy), help="`ended`: in whichever way those it comes after end."
)
@click.option("--attempts", type=click.IntRange(1, 20), help="How often it is tried at most.")
@click.option("--side-effects", type=one_of(SideEffects), help="What running it twice would mean.")
@click.option(
    "--input", "input_file", type=click.File("rb"), help="A file (UTF-8) the bot gets beside the text."
)
@click.option("--key", metavar="KEY", help="Idempotency key: asked twice with it, done once.")
@click.option("--wait", type=WAIT, metavar="[SECONDS]", help="Wait for the result and print it.")
@click.option(
    "--file", "file", type=click.File("rb"), help="Many: JSON lines, each like the body of POST /v1/tasks."
)
@click.option("--watch", is_flag=True, help="With many: show each result as it comes.")
def submit(
    session: Session,
    *,
    content: str | None,
    task_type: str | None,
    priority: str,
    engine: str | None,
    bot: str | None,
    pool: str | None,
    timeout: float | None,
    deadline: str | None,
    after: tuple[str, ...],
    after_policy: str | None,
    attempts: int | None,
    side_effects: str | None,
    input_file: IO[bytes] | None,
    key: str | None,
    wait: float | None,
    file: IO[bytes] | None,
    watch: bool,
) -> None:
    """Give the hive something to do.

    One: `hive submit --type code "git status" --wait` prints the result.
    Many: `hive submit --file tasks.jsonl --watch`, or `hive submit -` from standard input.
    """
    lines = file or (sys.stdin.buffer if content == "-" else None)
    if lines is not None:
        if file is not None and content is not None:
            raise click.UsageError("either a text or --file, not both.")
        batch.submit(session, lines, key=key, watch=watch or wait is not None)
        return
    if not content:
        hint = " A number after --wait is its seconds: a text that is a number comes before it."
        told = 'nothing to do: write a text, such as hive submit "git status", or --file.'
        raise click.UsageError(told if wait is None else told + hint)
    body = {
        "content": content,
        "type": task_type,
        "priority": priority,
        "engine": engine,
        "bot": bot,
        "pool": pool,
        "timeout_s": timeout,
        "deadline": None if deadline is None else moment(deadline, clock.now()),
        "after": [each for told in after for each in told.split(",")] or None,
        "after_policy": after_policy,
        "input": None if input_file is None else _text_of(input_file),
        "retry": _retry(attempts, side_effects),
    }
    _submit_one(
        session, body={name: value for name, value in body.items() if value is not None}, key=key, wait=wait
    )


def _submit_one(session: Session, *, body: dict[str, Any], key: str | None, wait: float | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    with session.client() as client:
        seen = decided(client, client.post("/v1/tasks", body, headers=headers))
        if wait is not None and not seen.over:
            seen = until_over(client, seen.task.id, wait, quiet=session.as_json)
        told = "" if wait is None or session.as_json else whole(client, seen.task.output)
    if session.as_json:
        screen.document(seen.document)
    elif wait is None:
        click.echo(seen.task.id)
        click.echo(f"{outcome(seen.task)}; `hive task watch {seen.task.id}` shows it", err=True)
    else:
        _tell_result(seen, told)
    if wait is not None:
        raise SystemExit(exit_of(seen.task))


def _tell_result(seen: Seen, told: str) -> None:
    """What it printed goes to standard output, how it went to standard error."""
    task = seen.task
    if told:
        screen.text(told)
    if task.output is not None and task.output.truncated:
        size = screen.size(task.output.size_bytes)
        click.echo(f"its output was longer: the first {size} were kept", err=True)
    click.echo(f"{task.id} {outcome(task)}", err=True)
    if not seen.over:
        click.echo(f"  next: `hive task why {task.id}`, `hive task watch {task.id}`", err=True)


def _retry(attempts: int | None, side_effects: str | None) -> dict[str, object] | None:
    told = {"attempts_max": attempts, "side_effects": side_effects}
    return {name: value for name, value in told.items() if value is not None} or None


def _text_of(file: IO[bytes]) -> str:
    body = file.read(INPUT_BYTES_MAX + 1)
    if len(body) > INPUT_BYTES_MAX:
        raise Failure(
            "The input is too large.",
            exit_code=Exit.USAGE,
            code="input_too_large",
            why=f"it has more than {INPUT_BYTES_MAX:,} bytes.",
            todo="put it into the bot's workspace and name the file in the task.",
        )
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Failure(
            "The input is no text.",
            exit_code=Exit.USAGE,
            code="input_not_text",
            why=f"it is not UTF-8: {error.reason} at byte {error.start}.",
            todo="put it into the bot's workspace and name the file in the task.",
        ) from error
