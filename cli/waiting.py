"""Waiting for tasks: long polls, one after another, until the end or until the wait is over."""

from dataclasses import dataclass
from typing import Final

import click
import httpx

from cli import screen
from cli.client import Client, decode
from cli.documents import ENDED, STANDING
from cli.patience import AWAY_FOR_S, patiently
from cli.settling import settled
from shared.contracts.orchestrator.facts import Output
from shared.contracts.orchestrator.queries import TaskDoc, Why
from shared.runtime import clock

POLL_S: Final = 20.0  # of one request; the API grants at most 30
SHOWN_AFTER_S: Final = 1.0  # what takes longer shows that it goes on
EXPLAINED_AFTER_S: Final = 2.0  # and then what it waits for


@dataclass(frozen=True)
class Seen:
    """A task as it was last seen, and the document it came in."""

    task: TaskDoc
    document: bytes

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.task.state in ENDED | STANDING


def decided(client: Client, answer: httpx.Response) -> Seen:
    """The task once its owner has decided it: a 202 says where to ask, and that it is stored already."""
    answer = settled(client, answer, "task", "hive task show")
    return Seen(decode(answer, TaskDoc), answer.content)


def until_over(client: Client, task_id: str, wait_s: float, *, quiet: bool) -> Seen:
    """The task when it has ended or stands still, or as it is after `wait_s`. What takes long says why."""
    deadline = clock.monotonic() + wait_s
    seen = _poll(client, task_id, deadline, SHOWN_AFTER_S)
    if seen.over or clock.monotonic() >= deadline:
        return seen
    with screen.progress(f"waiting for {task_id}", None, quiet=quiet):
        seen = _poll(client, task_id, deadline, EXPLAINED_AFTER_S)
        if seen.task.state == "queued" and not quiet:
            why = decode(patiently(lambda: client.get(f"/v1/tasks/{task_id}/why")), Why)
            click.echo(screen.safe(why.explanation), err=True)
        while not seen.over and clock.monotonic() < deadline:
            seen = _poll(client, task_id, deadline, POLL_S)
    return seen


def _poll(client: Client, task_id: str, deadline: float, longest_s: float) -> Seen:
    left = max(0.0, deadline - clock.monotonic())
    return look(client, task_id, min(longest_s, left), min(left, AWAY_FOR_S))


def look(client: Client, task_id: str, wait_s: float, away_s: float = AWAY_FOR_S) -> Seen:
    """The task when it has ended, or as it is after `wait_s`. The hive may be away for a moment meanwhile."""
    return decided(
        client, patiently(lambda: client.get(f"/v1/tasks/{task_id}", wait=round(wait_s, 3)), away_s)
    )


def whole(client: Client, output: Output | None) -> str:
    """All of an output: what is too long for the task's document lies in a file."""
    if output is None:
        return ""
    if output.file is None:
        return output.text
    path = f"/v1/files/{output.file.sha256}"
    return patiently(lambda: client.get(path)).content.decode(errors="replace")
