"""`hive task`: one task, looked at closely."""

import sys
from collections.abc import Callable
from typing import Final

import click
import httpx
import msgspec

from cli import screen
from cli.client import Client, decode
from cli.documents import (
    ATTEMPT_COLUMNS,
    attempt_row,
    exit_of,
    outcome,
    raw_value,
    task_fields,
)
from cli.events import Event, follow
from cli.session import Session, talking
from cli.waiting import whole
from shared.contracts.orchestrator.facts import Candidate, Decision
from shared.contracts.orchestrator.protocol import Chunk
from shared.contracts.orchestrator.queries import TaskDoc, Timeline, Tree, Why


@click.group()
def task() -> None:
    """Show, explain, watch, cancel, resume one task, or what it spawned."""


@task.command()
@talking
@click.argument("task_id", metavar="ID")
def show(session: Session, *, task_id: str) -> None:
    """Everything about it: state, attempts, output."""
    with session.client() as client:
        answer = client.get(f"/v1/tasks/{task_id}")
    if session.as_json:
        screen.document(answer.content)
        return
    shown = decode(answer, TaskDoc)
    screen.fields(task_fields(shown))
    if shown.attempts:
        click.echo()
        screen.table(ATTEMPT_COLUMNS, [attempt_row(attempt) for attempt in shown.attempts], empty="")
    if shown.output is not None and shown.output.text:
        click.echo()
        screen.text(shown.output.text)


@task.command()
@talking
@click.argument("task_id", metavar="ID")
def why(session: Session, *, task_id: str) -> None:
    """What it waits for, and why each bot does not have it."""
    with session.client() as client:
        answer = client.get(f"/v1/tasks/{task_id}/why")
    if session.as_json:
        screen.document(answer.content)
        return
    told = decode(answer, Why)
    click.echo(screen.safe(told.explanation))
    if told.queue_position is not None:
        click.echo(f"It is number {told.queue_position} in the queue.")
    if told.bots:
        click.echo()
        rows = [(verdict.bot, verdict.reason) for verdict in told.bots]
        screen.table(("bot", "why not"), rows, empty="")
    if told.decision is not None:
        click.echo(screen.safe(_decision(told.decision)))
    if told.advice:
        click.echo(f"\nnext: {screen.safe(told.advice)}")


@task.command()
@talking
@click.argument("task_id", metavar="ID")
def timeline(session: Session, *, task_id: str) -> None:
    """Every fact of it, with the time between them."""
    with session.client() as client:
        answer = client.get(f"/v1/tasks/{task_id}/timeline")
    if session.as_json:
        screen.document(answer.content)
        return
    rows = [
        (
            entry.at.astimezone().strftime("%H:%M:%S.%f")[:-3],
            f"+{screen.duration(entry.after_ms / 1000)}",
            entry.fact,
            entry.actor,
            _detail(entry.detail),
        )
        for entry in decode(answer, Timeline).entries
    ]
    screen.table(("at", "after", "fact", "actor", "detail"), rows, empty="No facts.", spare=("actor", "at"))


_BECAUSE: Final = {
    "most_free": "it had the most free slots; nothing is known yet of how good each is",
    "newcomer": "too little is known of it at this type of task",
    "trial": "its circuit is half open, and this is its trial",
}


def _decision(decision: Decision) -> str:
    """Who got the last attempt and why; who else could have had it, and why others could not."""
    taken, others = decision.candidates[0], decision.candidates[1:]
    because = _BECAUSE.get(decision.policy, f"it is the best by policy {decision.policy}")
    if decision.explored:
        because = "another than the best was tried, to learn"
    told = f"It was last given to {_candidate(taken)}: {because}"
    if decision.propensity is not None and decision.propensity < 1:
        told += f" (chance {decision.propensity:.1%})"
    told += f". {decision.candidates_total} could do it"
    if others:
        told += f"; the best others: {', '.join(map(_candidate, others))}"
    over = ", ".join(f"{count}: {reason.replace('_', ' ')}" for reason, count in decision.passed_over.items())
    return told + (f". Passed over: {over}." if over else ".")


def _candidate(each: Candidate) -> str:
    known = f", score {each.score:.2f} of {each.samples} tasks" if each.samples else ""
    return f"{each.bot_id} ({each.free} free slots{known})"


_TOLD_ELSEWHERE: Final = frozenset({"fact", "task_id", "content", "body_hash"})


def _detail(raw: msgspec.Raw) -> str:
    fact = raw_value(raw)
    if not isinstance(fact, dict):
        return screen.words(fact)
    return " ".join(
        f"{name}={screen.words(value)}" for name, value in fact.items() if name not in _TOLD_ELSEWHERE
    )


@task.command()
@talking
@click.argument("task_id", metavar="ID")
def tree(session: Session, *, task_id: str) -> None:
    """It and all that its bot, and their bots, have spawned."""
    with session.client() as client:
        answer = client.get(f"/v1/tasks/{task_id}/tree")
    if session.as_json:
        screen.document(answer.content)
        return
    told = decode(answer, Tree)
    rows = [
        (f"{'  ' * node.depth}{node.id}", node.state, node.type, node.bot, node.content)
        for node in told.nodes
    ]
    screen.table(("id", "state", "type", "bot", "content"), rows, empty="No tasks.", spare=("type", "bot"))
    if told.truncated:
        click.echo(f"There are more: the first {len(told.nodes):,} are shown.", err=True)


@task.command()
@talking
@click.argument("task_id", metavar="ID")
def watch(session: Session, *, task_id: str) -> None:
    """Its output as it appears, until it ends."""
    shown = False
    with session.client() as client:
        for event in follow(client, f"/v1/tasks/{task_id}/stream"):
            _tell(event, as_json=session.as_json)
            shown = shown or event.name == "chunk"
            last = event.data
        ended = msgspec.json.decode(last, type=TaskDoc)  # a stream ends with `end`, which holds the task
        unseen = not shown and not session.as_json  # too quick to be seen, or too long ago
        told = whole(client, ended.output) if unseen else ""
    if not session.as_json:
        if told:
            screen.text(told)
        click.echo(outcome(ended), err=True)
    raise SystemExit(exit_of(ended))


def _tell(event: Event, *, as_json: bool) -> None:
    if as_json:
        screen.line({"event": event.name, "data": raw_value(event.data)})
        return
    match event.name:
        case "chunk":
            chunk = msgspec.json.decode(event.data, type=Chunk)
            text = screen.safe(chunk.text) if sys.stdout.isatty() else chunk.text
            click.echo(text, nl=False, err=chunk.channel == "err")
        case "gap":
            click.echo("[output was skipped here: the whole result comes at the end]", err=True)
        case _:
            pass


@task.command()
@talking
@click.argument("task_ids", metavar="ID…", nargs=-1, required=True)
@click.option("--reason", default="asked", show_default=True, help="What stands in its history.")
@click.option("--tree", is_flag=True, help="All that descends from it, though it may have ended itself.")
def cancel(session: Session, *, task_ids: tuple[str, ...], reason: str, tree: bool) -> None:
    """It is no longer wanted, nor what it spawned; bots that work on it stop."""
    body, whole_tree = {"reason": reason}, "true" if tree else None
    _each(
        session,
        task_ids,
        lambda client, one: client.post(f"/v1/tasks/{one}/cancel", body, tree=whole_tree),
    )


@task.command()
@talking
@click.argument("task_ids", metavar="ID…", nargs=-1, required=True)
def resume(session: Session, *, task_ids: tuple[str, ...]) -> None:
    """A blocked task was looked at, and may run again."""
    _each(session, task_ids, lambda client, one: client.post(f"/v1/tasks/{one}/resume"))


def _each(session: Session, task_ids: tuple[str, ...], ask: Callable[[Client, str], httpx.Response]) -> None:
    with session.client() as client:
        for task_id in task_ids:
            answer = ask(client, task_id)
            if session.as_json:
                screen.line(answer.content)
            else:
                click.echo(f"{task_id}  {outcome(decode(answer, TaskDoc))}")
