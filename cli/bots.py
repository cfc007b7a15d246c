"""`hive bots`: the workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, assert_never

import click
import httpx
import msgspec

from cli import fleet as fleets
from cli import screen
from cli.circuit import circuit
from cli.client import Client, decode
from cli.documents import bot_fields, told_circuit
from cli.failure import Exit, Failure
from cli.listing import fetch
from cli.main import Nouns
from cli.problem import from_problem
from cli.session import Session, talking
from shared.contracts.orchestrator.facts import MEMORY_MB_MAX, MEMORY_MB_MIN, BotSpec
from shared.contracts.orchestrator.queries import BotDoc, HistoryEntry
from shared.contracts.words import SLOTS_DEFAULT, SLOTS_MAX, TaskType

CREATED: Final = 201
ACCEPTED: Final = 202
UP_WITHIN_S: Final = 20  # of one request; the API grants at most 30
COLUMNS: Final = (
    "name",
    "state",
    "engine",
    "types",
    "pool",
    "running",
    "free",
    "pid",
    "memory",
    "uptime",
    "reason",
)
NONE: Final = "No bots: `hive bots launch alpha --engine shell --workspace .`"
SPARE: Final = ("pid", "uptime", "memory", "pool", "types", "free", "engine")


@click.group(cls=Nouns)
def bots() -> None:
    """Launch, list, stop, restart, retire bots. Without a command: list."""


bots.add_command(circuit)


@bots.command("list")
@talking
@click.option("--retired", is_flag=True, help="Those that are gone, too.")
@click.option("--pool", help="Only those of this pool.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
def list_bots(session: Session, *, retired: bool, pool: str | None, limit: int) -> None:
    """List bots by name."""
    with session.client() as client:
        listed = fetch(client, "/v1/bots", limit=limit, retired=retired or None, pool=pool)
    if session.as_json:
        screen.document(listed)
        return
    rows = [_row(bot) for bot in listed.typed(BotDoc)]
    screen.table(COLUMNS, rows, empty=NONE, spare=SPARE)


def _row(bot: BotDoc) -> list[object]:
    return [
        bot.name,
        bot.state,
        bot.spec.engine,
        bot.spec.types or "all",
        bot.spec.pool,
        len(bot.running),
        bot.free_slots,
        bot.pid,
        screen.size(bot.rss_bytes),
        screen.duration(bot.uptime_s),
        _reason(bot),
    ]


def _reason(bot: BotDoc) -> str | None:
    """Why it is as it is; else why it is given nothing, or little."""
    if bot.reason or bot.circuit is None:
        return bot.reason
    return f"circuit {told_circuit(bot.circuit)}"


class Types(click.ParamType[tuple[TaskType, ...]]):
    """`code,testing`."""

    name = "types"

    def convert(
        self, value: str | tuple[TaskType, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[TaskType, ...]:
        """Each word is a type."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(TaskType(word.strip()) for word in value.split(",") if word.strip())
        except ValueError as error:
            self.fail(f"{error}; there are {', '.join(TaskType)}.", param, ctx)


@bots.command(context_settings={"ignore_unknown_options": False})
@talking
@click.argument("name")
@click.option("--engine", required=True, help="echo, shell, command, …")
@click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="A folder on the hive's machine, under a root it was started with; default: one of its own.",
)
@click.option(
    "--types", type=Types(), default=(), metavar="code,testing,…", help="What it is good at; default: all."
)
@click.option("--slots", type=click.IntRange(1, SLOTS_MAX), default=SLOTS_DEFAULT, show_default=True)
@click.option("--pool", default="default", show_default=True)
@click.option(
    "--count", type=click.IntRange(1, fleets.COUNT_MAX), default=1, help="So many: alpha-1, alpha-2, …"
)
@click.option(
    "--env", multiple=True, metavar="NAME", help="A variable it gets; the hive must allow it (up --env)."
)
@click.option("--allow", multiple=True, metavar="PROGRAM", help="Of the engine shell: one more program.")
@click.option(
    "--argv", multiple=True, metavar="WORD", help="Of the engine command: its words, one after another."
)
@click.option(
    "memory_mb",
    "--memory",
    type=click.IntRange(MEMORY_MB_MIN, MEMORY_MB_MAX),
    metavar="MB",
    help="What each process of its programs may have; default: 16 GiB.",
)
@click.option("--host", default="local", show_default=True, help="The machine it runs on.")
def launch(
    session: Session,
    *,
    name: str,
    engine: str,
    workspace: Path | None,
    types: tuple[TaskType, ...],
    slots: int,
    pool: str,
    count: int,
    env: tuple[str, ...],
    allow: tuple[str, ...],
    argv: tuple[str, ...],
    memory_mb: int | None,
    host: str,
) -> None:
    """Launch a bot, or many alike, and wait until they are up.

    One that was refused is launched again, corrected, under the same name.
    """
    spec = BotSpec(
        engine=engine,
        types=types,
        slots=slots,
        pool=pool,
        workspace=None if workspace is None else str(workspace),
        env=env,
        argv=argv,
        allow=allow,
        host=host,
        memory_mb=memory_mb,
    )
    with session.client() as client:
        answer = _launched(client, name, spec, count, quiet=session.as_json)
    if session.as_json:
        screen.document(answer.content)
    items = _outcomes(answer)
    if not session.as_json:
        for item in items:
            click.echo(item.told(), err=item.problem is not None)
    raise SystemExit(max((item.exit for item in items), default=Exit.OK))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one bot of those that were asked for."""

    name: str
    status: int
    bot: BotDoc | None = None
    problem: dict[str, Any] | None = None

    @property
    def exit(self) -> Exit:
        """As if it had been launched alone."""
        if self.problem is not None:
            return Exit(from_problem(self.problem, self.status).exit_code)
        return Exit.STILL_RUNNING if self.status == ACCEPTED else Exit.OK

    def told(self) -> str:
        """A line."""
        if self.problem is not None:
            return f"{self.name}  {screen.safe(from_problem(self.problem, self.status).what)}"
        if self.bot is None:
            return f"{self.name}  stored; `hive bots show {self.name}` tells when it is decided"
        pid = f"  pid {self.bot.pid}" if self.bot.pid is not None else ""
        anew = "  launched anew in place of one that was gone or never came up"
        again = anew if self.status == CREATED and self.bot.generation > 1 else ""
        return f"{self.name}  {screen.coloured(self.bot.state)}{pid}{again}"


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The answer when many were asked for."""

    items: list[Outcome]


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    """A pending answer: the bot is stored under its name."""

    id: str


def _launched(client: Client, name: str, spec: BotSpec, count: int, *, quiet: bool) -> httpx.Response:
    """Ask, and wait until they are up or cannot be."""
    body = {"name": name, **msgspec.to_builtins(spec)}
    if count > 1:
        body["count"] = count
    with screen.progress(f"launching {name}", None, quiet=quiet):
        return client.post("/v1/bots", body, wait=UP_WITHIN_S)


def _outcomes(answer: httpx.Response) -> list[Outcome]:
    """What became of each."""
    document = decode(answer, dict[str, msgspec.Raw])
    if "items" in document:
        return decode(answer, Fleet).items
    if "name" not in document:
        return [Outcome(name=decode(answer, _Named).id, status=answer.status_code)]
    bot = decode(answer, BotDoc)
    return [Outcome(name=bot.name, status=answer.status_code, bot=bot)]


@bots.command()
@talking
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Retire a bot whose spec differs, and launch it anew.")
def apply(session: Session, *, file: Path, replace: bool) -> None:
    """Make it so that the bots of fleet.toml are there; others are left alone."""
    wanted = fleets.read(file)
    with session.client() as client:
        there = fetch(client, "/v1/bots", limit=100_000).typed(BotDoc)
        steps = fleets.steps(wanted, there)
        differing = [step for step in steps if isinstance(step, fleets.Differs)]
        if differing and not replace:
            raise _differ(differing)
        with screen.progress("applying", len(steps), quiet=session.as_json) as done:
            for step in steps:
                _take(client, step, as_json=session.as_json)
                done(1)


def _take(client: Client, step: fleets.Step, *, as_json: bool) -> None:
    match step:
        case fleets.Launch():
            _launched(client, step.name, step.spec, 1, quiet=True)
            word = "launched"
        case fleets.Differs():
            client.delete(f"/v1/bots/{step.name}", wait=UP_WITHIN_S)
            _launched(client, step.name, step.spec, 1, quiet=True)
            word = "replaced"
        case fleets.Start():
            client.post(f"/v1/bots/{step.name}/start", wait=UP_WITHIN_S)
            word = "started"
        case fleets.Keep():
            word = "unchanged"
        case _:
            assert_never(step)
    if as_json:
        screen.line({"name": step.name, "done": word})
    else:
        click.echo(f"{step.name}  {word}")


def _differ(differing: list[fleets.Differs]) -> Failure:
    told = "; ".join(f"{step.name}: {', '.join(step.fields)}" for step in differing)
    return Failure(
        "Some bots run with another spec; nothing was changed.",
        exit_code=Exit.REFUSED,
        code="bots_differ",
        why=told,
        todo="`hive bots apply --replace` retires and launches them anew; what they do goes elsewhere.",
    )


@bots.command()
@talking
@click.argument("name")
def show(session: Session, *, name: str) -> None:
    """Everything about one bot."""
    with session.client() as client:
        answer = client.get(f"/v1/bots/{name}")
    if session.as_json:
        screen.document(answer.content)
    else:
        screen.fields(bot_fields(decode(answer, BotDoc)))


@bots.command()
@talking
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
def stop(session: Session, *, names: tuple[str, ...]) -> None:
    """Let it finish what it does, then stop it."""
    _each(session, names, lambda client, name: client.post(f"/v1/bots/{name}/stop", wait=UP_WITHIN_S))


@bots.command()
@talking
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
def start(session: Session, *, names: tuple[str, ...]) -> None:
    """Run a stopped or broken bot again, as it was launched."""
    _each(session, names, lambda client, name: client.post(f"/v1/bots/{name}/start", wait=UP_WITHIN_S))


@bots.command()
@talking
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
def restart(session: Session, *, names: tuple[str, ...]) -> None:
    """A new process for it; what it holds is given elsewhere."""
    _each(session, names, lambda client, name: client.post(f"/v1/bots/{name}/restart", wait=UP_WITHIN_S))


@bots.command()
@talking
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
def retire(session: Session, *, names: tuple[str, ...]) -> None:
    """Gone for good: its broker user is revoked; its history stays."""
    _each(session, names, lambda client, name: client.delete(f"/v1/bots/{name}", wait=UP_WITHIN_S))


def _each(session: Session, names: tuple[str, ...], ask: Callable[[Client, str], httpx.Response]) -> None:
    with (
        session.client() as client,
        screen.progress("asking", len(names), quiet=session.as_json or len(names) == 1) as done,
    ):
        for name in names:
            answer = ask(client, name)
            if session.as_json:
                screen.line(answer.content)
            else:
                click.echo("\n".join(item.told() for item in _outcomes(answer)))
            done(1)


@bots.command()
@talking
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--cursor", help="Go on where a list ended: its `next_cursor`.")
@click.option("--full", is_flag=True, help="All of each output, not only its first line.")
def history(session: Session, *, name: str, limit: int, cursor: str | None, full: bool) -> None:
    """What it did, newest first; kept after it is gone."""
    with session.client() as client:
        listed = fetch(client, f"/v1/bots/{name}/history", limit=limit, cursor=cursor)
    if session.as_json:
        screen.document(listed)
        return
    entries = listed.typed(HistoryEntry)
    if full and entries:
        for entry in entries:
            _show_whole(entry)
    else:
        rows = [_history_row(entry) for entry in entries]
        columns = ("at", "task", "type", "end", "ran", "content", "output")
        spare = ("at", "ran", "type")
        screen.table(columns, rows, empty="It did nothing yet.", spare=spare)
    if listed.next_cursor is not None:
        click.echo(f"More: add --cursor {listed.next_cursor}", err=True)


def _history_row(entry: HistoryEntry) -> list[object]:
    attempt = entry.attempt
    began = attempt.started_at or attempt.assigned_at
    ran = screen.duration((attempt.ended_at - began).total_seconds()) if attempt.ended_at else ""
    content, told = screen.first_line(entry.content), screen.first_line(_told(entry))
    return [attempt.assigned_at, entry.task_id, entry.type, attempt.end, ran, content, told]


def _show_whole(entry: HistoryEntry) -> None:
    head = "  ".join(screen.one_line(cell) for cell in _history_row(entry)[:5])
    click.echo(click.style(head, bold=True))
    click.echo(f"> {screen.safe(entry.content)}")
    screen.text(_told(entry))
    click.echo()


def _told(entry: HistoryEntry) -> str:
    error = entry.attempt.error
    return (entry.output_text or "") if error is None else error.detail
