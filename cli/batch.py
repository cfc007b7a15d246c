"""Many tasks at once: JSON lines in, an outcome for each line, and the results as they come."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import IO, Any, Final

import click
import msgspec

from cli import screen
from cli.client import Client, decode
from cli.documents import exit_of, outcome
from cli.failure import Exit, Failure
from cli.problem import from_problem
from cli.session import Session
from cli.waiting import Seen, look
from shared.contracts.words import BATCH_BYTES_MAX, BATCH_LINES_MAX
from shared.runtime import clock

JSON_LINES: Final = "application/jsonl"
WATCHED_AT_ONCE: Final = 8
WATCHED_FOR_S: Final = 2.0  # one task, before the next one has its turn


class LineOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a line: 201, 202 (stored, not decided yet), or a problem."""

    line: int
    status: int
    id: str | None = None
    replayed: bool = False
    problem: dict[str, Any] | None = None

    @property
    def failure(self) -> Failure | None:
        """Why it was not taken."""
        return None if self.problem is None else from_problem(self.problem, self.status)


class _Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/tasks/batch."""

    items: list[LineOutcome]


def submit(session: Session, file: IO[bytes], *, key: str | None, watch: bool) -> None:
    """Send the lines, tell what became of each, with `watch` each result. Exits with the worst of them."""
    with session.client() as client:
        taken: list[str] = []
        worst = Exit.OK
        for item in send(client, file, key=key, quiet=session.as_json):
            failure = item.failure
            if failure is None:
                assert item.id is not None, item
                taken.append(item.id)
            else:
                worst = Exit(failure.exit_code)
            _tell_line(item, failure, as_json=session.as_json, watch=watch)
        if watch:
            for seen in results(client, taken, quiet=session.as_json):
                worst = worst or exit_of(seen.task)
                if session.as_json:
                    screen.line(seen.document)
                else:
                    click.echo(f"{seen.task.id}  {outcome(seen.task)}  {screen.one_line(_result(seen))}")
    if not session.as_json:
        click.echo(f"{len(taken):,} taken", err=True)
    raise SystemExit(worst)


def send(client: Client, file: IO[bytes], *, key: str | None, quiet: bool) -> Iterator[LineOutcome]:
    """Send the lines in as many requests as the API's limits ask for; line numbers are those of the file."""
    with screen.progress("submitting", None, quiet=quiet) as done:
        for number, (first, lines) in enumerate(portions(file)):
            headers = {"Content-Type": JSON_LINES}
            if key is not None:
                headers["Idempotency-Key"] = key if number == 0 else f"{key}.{first}"
            answer = client.post("/v1/tasks/batch", content=b"".join(lines), headers=headers)
            for item in decode(answer, _Outcomes).items:
                yield msgspec.structs.replace(item, line=item.line + first - 1)
            done(len(lines))


def portions(lines: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Lines in portions that fit a request, each with the number of its first line."""
    first, portion, size = 1, list[bytes](), 0
    for number, text in enumerate(lines, start=1):
        ended = text if text.endswith(b"\n") else text + b"\n"
        if portion and (len(portion) == BATCH_LINES_MAX or size + len(ended) > BATCH_BYTES_MAX):
            yield first, portion
            first, portion, size = number, [], 0
        portion.append(ended)
        size += len(ended)
    if portion:
        yield first, portion


def results(
    client: Client, task_ids: list[str], *, quiet: bool, within_s: float = math.inf
) -> Iterator[Seen]:
    """Each task when it has ended, as they end: a few are watched at a time, each for a moment."""
    deadline = clock.monotonic() + within_s
    waiting = deque(task_ids)
    watched: set[Future[Seen]] = set()
    with (
        screen.progress("results", len(task_ids), quiet=quiet) as done,
        ThreadPoolExecutor(WATCHED_AT_ONCE) as pool,
    ):
        while (waiting or watched) and clock.monotonic() < deadline:
            while waiting and len(watched) < WATCHED_AT_ONCE:
                watched.add(pool.submit(look, client, waiting.popleft(), WATCHED_FOR_S))
            ready, watched = wait(watched, return_when=FIRST_COMPLETED)
            for seen in (future.result() for future in ready):
                if seen.over:
                    done(1)
                    yield seen
                else:
                    waiting.append(seen.task.id)


def _tell_line(item: LineOutcome, failure: Failure | None, *, as_json: bool, watch: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"line": item.line, "status": item.status, "id": item.id}
        screen.line(told if failure is None else {**told, "error": failure.document()})
    elif failure is not None:
        click.echo(f"line {item.line}: {screen.safe(failure.what)} ({failure.code})", err=True)
    elif not watch:
        click.echo(item.id)


def _result(seen: Seen) -> str:
    output = seen.task.output
    return "" if output is None else output.text.strip()
