"""`hive demo`: a hive of its own, three bots, ten real tasks over this repository, and a bot that is killed.

Honest: each result is compared with what the same command says when it is run here, and one that is wrong
makes the exit 1.
"""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psutil

from cli import batch, detach, screen
from cli.client import Client, decode
from cli.data_dir import DataDir
from cli.documents import took_s
from cli.down import supervisor_of
from cli.failure import Exit, Failure
from cli.waiting import decided
from shared.contracts.orchestrator.queries import BotDoc, TaskDoc
from shared.runtime import clock

ROOT: Final = Path(__file__).resolve().parents[1]
BOTS: Final = {"ada": "shell", "bert": "shell", "eve": "echo"}
SLOW: Final = 'python3 -c "import time; [print(n, flush=True) or time.sleep(0.25) for n in range(8)]"'
"""Runs for two seconds: long enough to be killed on the way."""
COMMANDS: Final = (
    "git log --oneline -3",
    "git status --short --branch",
    "ls",
    "wc -l pyproject.toml Makefile",
    "grep -oE ^class.[A-Z][a-z]+ shared/kernel/messages.py",
    "head -n 3 README.md",
    'python3 -c "print(sum(range(1001)))"',
)
RUNNING_WITHIN_S: Final = 15.0
ENDED_WITHIN_S: Final = 60.0
STOPPED_WITHIN_S: Final = 60.0
UP_WITHIN_S: Final = 20


@dataclass(frozen=True)
class Asked:
    """A task of the demo, and how it must end: what it prints, and with which exit code."""

    content: str
    engine: str
    expected: str
    exit_code: int | None = None
    input: str | None = None

    def body(self) -> dict[str, object]:
        """As the API takes it."""
        told = {"content": self.content, "engine": self.engine, "input": self.input}
        return {name: value for name, value in told.items() if value is not None}

    def wrong(self, task: TaskDoc | None) -> str | None:
        """What is not as it must be."""
        if task is None:
            return f"it did not end within {ENDED_WITHIN_S:.0f} s"
        output = task.output
        if task.state != ("failed" if self.exit_code else "completed"):
            return f"it is {task.state}"
        if output is None or output.exit_code != self.exit_code:
            return f"its exit code is not {self.exit_code}"
        return None if self.exit_code or output.text == self.expected else "it printed something else"


def asked() -> list[Asked]:
    """Ten: eight commands, seven of them run here first to know what they say, and two for echo."""
    delayed = '{"delay_s": 0.3, "chunks": ["slowly, ", "but surely"]}'
    return [
        Asked(SLOW, "shell", "".join(f"{number}\n" for number in range(8)), 0),
        *map(_as_here, COMMANDS),
        Asked("hello, hive", "echo", "hello, hive"),
        Asked("with a delay", "echo", "slowly, but surely", input=delayed),
    ]


def _as_here(content: str) -> Asked:
    """What this very command says on this machine, with the environment that a bot gives it."""
    said = subprocess.run(  # noqa: S603 - our own commands, above
        shlex.split(content),
        cwd=ROOT,
        env={"PATH": os.defpath, **_path(), "HOME": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Asked(content, "shell", said.stdout, said.returncode)


def _path() -> dict[str, str]:
    return {"PATH": path} if (path := os.environ.get("PATH")) else {}  # noqa: TID251 - where programs are


@click.command()
def demo() -> None:
    """Show it all in half a minute: start, three bots, ten real tasks, a bot killed on the way, stop."""
    began = clock.monotonic()
    wanted = asked()
    with tempfile.TemporaryDirectory(prefix="hive-demo-") as folder, hive(DataDir(Path(folder))) as client:
        _say(began, f"a hive of its own is ready at {client.url}")
        _launch(client, began)
        wrong = _work(client, wanted, began)
        _say(began, "stopping")
    _say(began, "stopped; nothing is left behind")
    for line in wrong:
        click.echo(f"  {click.style('wrong', fg='red')}: {line}")
    right = len(wanted) - len(wrong)
    click.echo(f"{right} of {len(wanted)} tasks ended as they should, in {clock.monotonic() - began:.1f} s.")
    raise SystemExit(Exit.FAILED if wrong else Exit.OK)


@contextmanager
def hive(data: DataDir) -> Iterator[Client]:
    """A hive that is ready; stopped at the end, whatever happens."""
    data.make()
    options = [f"--data={data.path}", f"--root={ROOT}", "--json"]
    try:
        detach.start(options, data.log_of("supervisor"), quiet=True)
        running = data.running()
        assert running is not None
        with Client(running.url, data.admin_key.read_text().strip()) as client:
            yield client
    finally:
        running = data.running()
        process = None if running is None else supervisor_of(running)
        if process is not None:
            process.terminate()
            psutil.wait_procs([process], timeout=STOPPED_WITHIN_S)


def _launch(client: Client, began: float) -> None:
    for name, engine in BOTS.items():
        body = {"name": name, "engine": engine}
        if engine == "shell":
            body["workspace"] = str(ROOT)
        bot = decode(client.post("/v1/bots", body, wait=UP_WITHIN_S), BotDoc)
        _say(began, f"bot {bot.name} is up: engine {engine}, process {bot.pid}")


def _work(client: Client, wanted: list[Asked], began: float) -> list[str]:
    """Submit all, kill a bot, show each end; what was wrong, a line each."""
    by_id = {}
    for task in wanted:
        seen = decided(client, client.post("/v1/tasks", task.body()))
        by_id[str(seen.task.id)] = task
    _say(began, f"{len(by_id)} tasks are submitted")
    slow = next(task_id for task_id, task in by_id.items() if task.content == SLOW)
    wrong: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(_kill_its_bot, client, slow, began)
        ended: dict[str, TaskDoc] = {}
        for seen in batch.results(client, list(by_id), quiet=True, within_s=ENDED_WITHIN_S):
            ended[str(seen.task.id)] = seen.task
            _show(seen.task, began)
        killed = killing.result()
    for task_id, task in by_id.items():
        if reason := task.wrong(ended.get(task_id)):
            wrong.append(f"{task.content}: {reason}")
    if slow in ended and (reason := _not_moved(ended[slow], killed, began)):
        wrong.append(f"{SLOW}: {reason}")
    return wrong


def _kill_its_bot(client: Client, task_id: str, began: float) -> str:
    """Kill the process of the bot that works on the task; the bot's name."""
    deadline = clock.monotonic() + RUNNING_WITHIN_S
    while (task := decided(client, client.get(f"/v1/tasks/{task_id}", wait=0.05)).task).state != "running":
        if clock.monotonic() > deadline:
            raise Failure(
                "The long task does not run.",
                exit_code=Exit.FAILED,
                code="demo_stuck",
                why=f"it is {task.state} after {RUNNING_WITHIN_S:.0f} s.",
                todo="`hive doctor`",
            )
    bot = decode(client.get(f"/v1/bots/{task.bot}"), BotDoc)
    assert bot.pid is not None, bot
    os.kill(bot.pid, signal.SIGKILL)
    _say(began, click.style(f"kill -9 {bot.pid}: {bot.name} dies while it runs the long task", fg="yellow"))
    return bot.name


def _not_moved(task: TaskDoc, killed: str, began: float) -> str | None:
    """Whether the task of the killed bot was lost there, and done by another."""
    for attempt in task.attempts:
        _say(began, f"  its attempt {attempt.attempt} on {attempt.bot}: {attempt.end}")
    first, last = task.attempts[0], task.attempts[-1]
    if (first.bot, first.end) != (killed, "lost"):
        return f"its attempt on {killed} should be lost"
    return None if last.bot != killed else f"it did not move away from {killed}"


def _show(task: TaskDoc, began: float) -> None:
    text = "" if task.output is None else task.output.text.strip()
    first = screen.safe(text.partition("\n")[0])[:50]
    content = task.content if len(task.content) <= 40 else f"{task.content[:39]}…"  # noqa: PLR2004
    took = screen.duration(took_s(task))
    _say(began, f"{screen.coloured(task.state)}  {content:<40}  {task.bot or '':<4}  {took:>7}  {first}")


def _say(began: float, text: str) -> None:
    click.echo(f"{click.style(f'{clock.monotonic() - began:5.1f} s', dim=True)}  {text}")
