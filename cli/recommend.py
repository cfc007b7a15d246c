"""`hive recommend` and `hive whatif`: which bots are best, and what another policy would have come to."""

from datetime import timedelta
from typing import Final

import click

from cli import screen
from cli.client import decode
from cli.session import Session, talking
from cli.words import DURATION, one_of
from shared.contracts.scheduler.queries import Interval, Outcomes, Recommendations, Recommended, WhatIf
from shared.contracts.words import TaskType
from shared.runtime import clock

COLUMNS: Final = ("rank", "bot", "score", "confidence", "samples", "trend", "why")
POLICIES: Final = ("cheapest", "fastest", "efficient", "random")


@click.command()
@talking
@click.argument("task_type", metavar="TYPE", type=one_of(TaskType))
def recommend(session: Session, *, task_type: str) -> None:
    """Say which bots are best at a type of task, the best first, and why; and why not the others."""
    with session.client() as client:
        answer = client.get("/v1/recommendations", type=task_type)
    if session.as_json:
        screen.document(answer.content)
        return
    told = decode(answer, Recommendations)
    screen.table(
        COLUMNS, [_row(each) for each in told.ranked], empty=f"No bot can be given a {told.type} task now."
    )
    for other in told.others:
        click.echo(f"not {other.bot}: {screen.safe(other.reason)}")
    click.echo(f"policy: {told.policy}", err=True)


def _row(each: Recommended) -> tuple[object, ...]:
    known = each.standing
    score = f"{known.score:.2f}" if known.trusted else f"({known.score:.2f})"
    why = "; ".join(each.reasons)
    return (each.rank, each.bot, score, f"{known.confidence:.0%}", known.samples, known.trend, why)


@click.command()
@talking
@click.option("--policy", type=click.Choice(POLICIES), required=True, help="Who would have had the tasks.")
@click.option("--since", type=DURATION, default="7d", show_default=True, help="How far to look back.")
@click.option("--type", "task_type", type=one_of(TaskType), help="Only tasks of this type.")
def whatif(session: Session, *, policy: str, since: float, task_type: str | None) -> None:
    """Estimate how tasks would have gone under another policy, from decisions that chance had a part in."""
    began = (clock.now() - timedelta(seconds=since)).isoformat()
    with session.client() as client:
        answer = client.get("/v1/whatif", policy=policy, since=began, type=task_type)
    if session.as_json:
        screen.document(answer.content)
        return
    told = decode(answer, WhatIf)
    rows = [
        (name, *(_shown(found, which) for found in (told.actual, told.estimate)))
        for name, which in (("run time, p95", "run"), ("cost of a task", "cost"), ("failures", "failures"))
    ]
    if told.actual is not None:
        screen.table(("", "as it was", f"if {policy}"), rows, empty="")
    click.echo(screen.safe(told.detail))
    left_out = [
        f"{count:,} {why}"
        for count, why in (
            (told.without_chance, "were not left to chance"),
            (told.without_opinion, "had nothing known of any bot"),
        )
        if count
    ]
    if left_out:
        click.echo(f"of {told.decisions:,} decisions {' and '.join(left_out)}", err=True)


def _shown(found: Outcomes | None, which: str) -> str:
    if found is None:
        return "not enough data"
    match which:
        case "run":
            tail = found.run_s_p95
            if tail is None:
                return "not enough data"
            low, high = screen.duration(tail.low), screen.duration(tail.high)
            return f"{screen.duration(tail.estimate)} ({low} to {high})"
        case "cost":
            return _between(found.cost_usd, "${:.4f}")
        case _:
            return _between(found.failure_share, "{:.1%}")


def _between(interval: Interval, form: str) -> str:
    low, high = form.format(interval.low), form.format(interval.high)
    return f"{form.format(interval.estimate)} ({low} to {high})"
