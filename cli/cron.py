"""`hive cron`: tasks that are submitted again and again, or once, at their times."""

import sys
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import click
import msgspec

from cli import screen
from cli.client import Client, decode
from cli.failure import Exit, Failure
from cli.listing import fetch
from cli.session import Session, talking
from cli.settling import settled
from cli.words import DURATION, one_of
from shared.contracts.scheduler.schedules import (
    JITTER_LONGEST_S,
    CatchUp,
    Overlap,
    Receipt,
    ScheduleDoc,
)
from shared.contracts.words import ATTEMPTS_MAX, CONTENT_CHARS_MAX, Priority, SideEffects, TaskType

COLUMNS: Final = ("name", "state", "expression", "timezone", "next", "fired", "late", "skipped", "text")
SPARE: Final = ("skipped", "late", "timezone")
RECEIPTS: Final = ("due", "outcome", "late", "task", "reason")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The task of a run that was asked for."""

    name: str
    task_id: str


@click.group()
def cron() -> None:
    """Add, list, show, run, pause, resume, remove schedules, and see what became of their ticks."""


@cron.command()
@talking
@click.argument("name")
@click.argument("expression", metavar="EXPR")
@click.argument("text", metavar="TEXT|-")
@click.option("--tz", "zone", default="UTC", show_default=True, help="Time zone, such as Europe/Zurich.")
@click.option("--type", "task_type", type=one_of(TaskType), help="Default: told from the text.")
@click.option("--priority", type=one_of(Priority), default="P2", show_default=True)
@click.option("--bot", help="Only this bot.")
@click.option("--pool", help="Only a bot of this pool.")
@click.option("--engine", help="Only a bot with this engine.")
@click.option("--timeout", type=DURATION, help="Longest time of one attempt: 60s, 5m.")
@click.option("--attempts", type=click.IntRange(1, ATTEMPTS_MAX), help="How often a task is tried at most.")
@click.option("--side-effects", type=one_of(SideEffects), help="What running a task twice would mean.")
@click.option(
    "--jitter", type=DURATION, help=f"Fire up to so much later: 30s. At most {JITTER_LONGEST_S:.0f} s."
)
@click.option("--catch-up", type=one_of(CatchUp), default="one", show_default=True, help="Of missed ticks.")
@click.option(
    "--overlap",
    type=one_of(Overlap),
    default="allow",
    show_default=True,
    help="While an earlier task has not ended.",
)
@click.option("--paused", is_flag=True, help="Add it paused.")
@click.option("--replace", is_flag=True, help="Change the schedule of that name, if there is one.")
def add(
    session: Session,
    *,
    name: str,
    expression: str,
    text: str,
    zone: str,
    task_type: str | None,
    priority: str,
    bot: str | None,
    pool: str | None,
    engine: str | None,
    timeout: float | None,
    attempts: int | None,
    side_effects: str | None,
    jitter: float | None,
    catch_up: str,
    overlap: str,
    paused: bool,
    replace: bool,
) -> None:
    """Submit TEXT at the times that EXPR says.

    \b
    hive cron add nightly "0 3 * * *" --tz Europe/Zurich --type code "run the tests"
    EXPR is five fields of cron (minute hour day month weekday), six with seconds
    before them, @hourly, @daily, …, "@every 90s", or "@at 2030-01-31T03:00:00Z".
    Exit 4 when it cannot be read, or when there is another schedule of that name.
    """  # noqa: D301 - click reads the \b
    retry = _given(attempts_max=attempts, side_effects=side_effects)
    task = _given(
        content=_text(text),
        type=task_type,
        priority=priority,
        bot=bot,
        pool=pool,
        engine=engine,
        timeout_s=timeout,
        retry=retry or None,
    )
    body = _given(
        expression=expression, timezone=zone, task=task, jitter_s=jitter, catch_up=catch_up, overlap=overlap
    )
    with session.client() as client:
        if replace and _is_there(client, name):
            asked = client.put(_path(name), {**body, "enabled": not paused})
        else:
            asked = client.post("/v1/schedules", {"name": name, **body, "enabled": not paused})
        answer = settled(client, asked, "schedule", "hive cron show")
    _tell(session, answer.content)


@cron.command(name="list")
@talking
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def list_schedules(session: Session, *, limit: int, cursor: str | None) -> None:
    """All schedules, by name."""
    with session.client() as client:
        listed = fetch(client, "/v1/schedules", limit=limit, cursor=cursor)
    if session.as_json:
        screen.document(listed)
        return
    rows = [_row(each) for each in listed.typed(ScheduleDoc)]
    screen.table(COLUMNS, rows, empty="No schedules: `hive cron add --help`.", spare=SPARE)
    if listed.next_cursor is not None:
        click.echo(f"More: add --cursor {listed.next_cursor}", err=True)


@cron.command()
@talking
@click.argument("name")
def show(session: Session, *, name: str) -> None:
    """One schedule, with its next times. Exit 3 when there is none of that name."""
    with session.client() as client:
        answer = settled(client, client.get(_path(name)), "schedule", "hive cron show")
    _tell(session, answer.content)


@cron.command()
@talking
@click.argument("name")
@click.option("--key", metavar="KEY", help="Idempotency key: asked twice with it, run once.")
def run(session: Session, *, name: str, key: str | None) -> None:
    """Submit its task now, whatever its times say; prints the task's id."""
    headers = {} if key is None else {"Idempotency-Key": key}
    with session.client() as client:
        answer = client.post(f"{_path(name)}/run", headers=headers)
    if session.as_json:
        screen.document(answer.content)
        return
    task_id = decode(answer, Run).task_id
    click.echo(task_id)
    click.echo(f"`hive task show {task_id}` follows it", err=True)


@cron.command()
@talking
@click.argument("name")
def pause(session: Session, *, name: str) -> None:
    """Let it not tick until it is resumed; what it misses meanwhile is never caught up."""
    _turn(session, name, "pause")


@cron.command()
@talking
@click.argument("name")
def resume(session: Session, *, name: str) -> None:
    """Let it tick again, from now on."""
    _turn(session, name, "resume")


@cron.command()
@talking
@click.argument("name")
def remove(session: Session, *, name: str) -> None:
    """Remove it; its tasks go on, its receipts stay."""
    with session.client() as client:
        answer = client.delete(_path(name))
    if session.as_json:
        screen.document(answer.content)
    else:
        click.echo(f"{name} is removed; `hive cron receipts {name}` still shows what became of it", err=True)


@cron.command()
@talking
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
def receipts(session: Session, *, name: str, limit: int, cursor: str | None) -> None:
    """What became of its due times, newest first: fired, late, skipped and why, and the task."""
    with session.client() as client:
        listed = fetch(client, f"{_path(name)}/receipts", limit=limit, cursor=cursor)
    if session.as_json:
        screen.document(listed)
        return
    rows = [_receipt(each) for each in listed.typed(Receipt)]
    screen.table(RECEIPTS, rows, empty="It has not been due yet.", spare=("reason",))
    if listed.next_cursor is not None:
        click.echo(f"More: add --cursor {listed.next_cursor}", err=True)


def _turn(session: Session, name: str, verb: str) -> None:
    with session.client() as client:
        answer = settled(client, client.post(f"{_path(name)}/{verb}"), "schedule", "hive cron show")
    _tell(session, answer.content)


def _tell(session: Session, content: bytes) -> None:
    if session.as_json:
        screen.document(content)
        return
    schedule = msgspec.json.decode(content, type=ScheduleDoc)
    counts = f"{schedule.fired:,} fired, {schedule.late:,} late, {schedule.skipped:,} skipped"
    screen.fields(
        [
            ("name", schedule.name),
            ("state", schedule.state),
            ("expression", schedule.expression),
            ("timezone", schedule.timezone),
            *((f"next {number}", _there(schedule, at)) for number, at in enumerate(schedule.next, 1)),
            ("jitter", f"{schedule.jitter_s:g} s" if schedule.jitter_s else None),
            ("catch up", schedule.catch_up.value),
            ("overlap", schedule.overlap.value),
            ("running", ", ".join(schedule.running)),
            ("waiting", schedule.waiting),
            ("ticks", counts),
            ("type", schedule.task.type),
            ("priority", schedule.task.priority),
            ("bot", schedule.task.bot),
            ("pool", schedule.task.pool),
            ("engine", schedule.task.engine),
        ]
    )
    click.echo()
    screen.text(schedule.task.content)


def _row(schedule: ScheduleDoc) -> tuple[object, ...]:
    return (
        schedule.name,
        schedule.state,
        schedule.expression,
        schedule.timezone,
        _there(schedule, schedule.next[0]) if schedule.next else "",
        schedule.fired,
        schedule.late,
        schedule.skipped,
        screen.first_line(schedule.task.content),
    )


def _there(schedule: ScheduleDoc, at: datetime) -> str:
    """A due time as the clocks of the schedule's zone show it."""
    return f"{at.astimezone(ZoneInfo(schedule.timezone)):%Y-%m-%d %H:%M:%S %Z}"


def _receipt(receipt: Receipt) -> tuple[object, ...]:
    times = f" ({receipt.count:,} ticks)" if receipt.count > 1 else ""
    return (
        receipt.due_at,
        f"{receipt.outcome}{times}",
        f"{receipt.late_s:g} s" if receipt.late_s else "",
        receipt.task_id or "",
        receipt.reason,
    )


def _is_there(client: Client, name: str) -> bool:
    try:
        client.get(_path(name))
    except Failure as failure:
        if failure.exit_code == Exit.NOT_FOUND:
            return False
        raise
    return True


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _path(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"


def _text(text: str) -> str:
    told = sys.stdin.read() if text == "-" else text
    if not told:
        raise click.UsageError("the text is empty.")
    if len(told) > CONTENT_CHARS_MAX:
        raise click.UsageError(
            f"a task's text has at most {CONTENT_CHARS_MAX:,} characters, this one {len(told):,}."
        )
    return told
