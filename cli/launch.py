"""Starting the supervisor: the data directory is locked, the zygote warms up, keys are made, then it runs."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import IO, Final

import click
import msgspec
import psutil

from cli import banner, ports
from cli.data_dir import DataDir, Held, Running, default_path
from cli.detach import Starter
from cli.failure import Exit, Failure
from cli.plan import Plan
from cli.processes import Processes
from cli.supervisor import Supervisor
from shared.runtime import clock, private
from shared.runtime.credentials import AUTHORITY_FILE, Authority, CredentialsError, create_authority
from shared.runtime.ids import short_token
from shared.runtime.zygote import Zygote

IMPORTED_FIRST: Final = (
    "services.gateway.__main__",
    "services.orchestrator.__main__",
    "services.messenger.__main__",
    "services.scheduler.__main__",
    "bots.__main__",
)
KEY_BYTES: Final = 32
LEFT_OVER_S: Final = 10.0
"""So long a killed hive's processes may take to end: its zygote gives them 5 s."""


def run(plan: Plan, *, as_json: bool, tell_fd: int | None = None) -> None:
    """Run a hive until a signal."""
    data = DataDir(plan.data)
    starter = None if tell_fd is None else Starter(tell_fd)
    data.make()
    with hold(data):
        zygote = _zygote(data)  # first of all: it imports while the rest is prepared
        try:
            _run(plan, data, zygote, as_json=as_json, starter=starter)
        finally:
            zygote.close()


def hold(data: DataDir) -> IO[str]:
    """Lock the data directory, when what a killed hive left has ended; a Failure says who else has it."""
    try:
        lock = data.lock()
    except Held as held:
        raise held_by(data, held.holder) from held
    left_over = data.running()
    if left_over is not None and left_over.zygote_pid is not None:
        _wait_gone(left_over.zygote_pid, left_over.zygote_started)
    return lock


def held_by(data: DataDir, holder: Running | None) -> Failure:
    """Another hive has this data."""
    who = f"process {holder.pid}, at {holder.url}" if holder else "it is just starting"
    return Failure(
        f"A hive already runs on {data.path}.",
        exit_code=Exit.REFUSED,
        code="data_held",
        why=f"{who}.",
        todo="`hive status` shows it, `hive down` stops it; `hive up --data DIR` starts another.",
    )


def _wait_gone(pid: int, started: float) -> None:
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < 1.0:
            process.wait(LEFT_OVER_S)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired as error:
        raise Failure(
            "What a killed hive left behind does not end.",
            exit_code=Exit.REFUSED,
            code="left_over",
            why=f"process {pid} still runs.",
            todo=f"end it (kill -9 {pid}), then `hive up` again.",
        ) from error


def _zygote(data: DataDir) -> Zygote:
    return Zygote.start(IMPORTED_FIRST, name="zygote", log=data.log_of("zygote"))


def _run(plan: Plan, data: DataDir, zygote: Zygote, *, as_json: bool, starter: Starter | None) -> None:
    began = clock.monotonic()
    say = _saying(as_json=as_json, starter=starter)
    with ports.listen(plan.port) as http:
        if plan.port is None and ports.port_of(http) != ports.HTTP_PORT:
            say(f"port {ports.HTTP_PORT} is taken: the API is at {ports.port_of(http)}")
        authority = _authority(plan)
        processes = Processes(plan, zygote, make_zygote=lambda: _zygote(data), http=http, say=say)

        async def on_ready(running: Running) -> None:
            shown = await _shown(plan, running, clock.monotonic() - began, as_json=as_json)
            if starter is not None:
                starter.ready(shown)  # and not into the log: it holds a login link
                say(f"ready at {running.url}")
            else:
                click.echo(shown)
                sys.stdout.flush()

        first = _first(plan, data, ports.port_of(http))
        asyncio.run(Supervisor(plan, authority, processes, first, say=say, on_ready=on_ready).run())
    say("stopped")


async def _shown(plan: Plan, running: Running, took_s: float, *, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(running).decode()
    usual = plan.data == default_path(plan.environment.get("XDG_STATE_HOME"))
    link = await banner.login_link(running)
    return banner.of(running, DataDir(plan.data), took_s, link, usual_place=usual)


def _first(plan: Plan, data: DataDir, port: int) -> Running:
    """What is known before anything runs."""
    me = psutil.Process()
    return Running(
        pid=me.pid,
        started=me.create_time(),
        url=f"http://{ports.LOOPBACK}:{port}",
        host=ports.LOOPBACK,
        port=port,
        nats_url=plan.nats_url or "",
        durability=plan.durability,
        replicas=plan.replicas,
        admin_key=_admin_key(data),
        creds=str(plan.creds("ops")),
        since=clock.now().isoformat(timespec="seconds"),
    )


def _authority(plan: Plan) -> Authority | None:
    """The keys of the broker's accounts: ours; of another's broker only if its folder has them."""
    if plan.nats_url is not None and not (plan.keys / AUTHORITY_FILE).exists():
        return None
    try:
        return create_authority(plan.keys)
    except CredentialsError as error:
        raise Failure(
            "The hive's keys cannot be used.", exit_code=Exit.FAILED, code="keys_damaged", why=str(error)
        ) from error


def _admin_key(data: DataDir) -> str:
    """The key of whoever may read the data directory; made once."""
    if not data.admin_key.exists():
        private.write(data.admin_key, f"hive_{short_token(KEY_BYTES)}\n")
    return str(data.admin_key)


def _saying(*, as_json: bool, starter: Starter | None) -> Callable[[str], None]:
    """News go to the screen; for programs and in the log with the date; to who waits for us, too."""

    def say(text: str) -> None:
        if starter is not None:
            starter.say(text)
        with contextlib.suppress(OSError):  # a log on a full disk must not end what still works
            print_out(text)

    def print_out(text: str) -> None:
        if as_json or starter is not None:
            click.echo(f"{clock.now().isoformat(timespec='milliseconds')} {text}", err=True)
        else:
            at = clock.now().astimezone().strftime("%H:%M:%S")
            click.echo(f"{click.style(at, dim=True)} {text}")

    return say
