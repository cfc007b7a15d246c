"""What `hive up` prints when it is ready: where it is, how to get in, and what to type next."""

import asyncio
import shlex
import shutil
from pathlib import Path
from typing import Final

import click
import msgspec

from cli import probing
from cli.data_dir import DataDir, Running

ROOT: Final = Path(__file__).resolve().parents[1]
CREATED: Final = 201


class LoginLink(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/login-links."""

    url: str


async def login_link(running: Running) -> str | None:
    """A fresh one-time link for a browser; None when the gateway gives none."""
    key = await asyncio.to_thread(Path(running.admin_key).read_text)
    answer = await probing.ask(
        running.host,
        running.port,
        "/v1/login-links",
        method="POST",
        headers={"Authorization": f"Bearer {key.strip()}", "Content-Type": "application/json"},
    )
    if answer is None or answer.status != CREATED:
        return None
    return msgspec.json.decode(answer.body, type=LoginLink).url


def of(running: Running, data: DataDir, took_s: float, link: str | None, *, usual_place: bool) -> str:
    """The lines, as they are shown. `usual_place`: a second terminal finds the data directory by itself."""
    durable = "on disk" if running.durability == "fsync" else "handed to the operating system"
    hive = command() if usual_place else f"HIVE_DATA={shlex.quote(str(data.path))} {command()}"
    lines = [
        ("API", running.url),
        ("API docs", f"{running.url}/docs"),
        ("log in", link or f"`{hive} login` prints a link"),
        ("data", f"{data.path} (acknowledged means {durable})"),
        ("broker", running.nats_url),
        (
            "try",
            f'{hive} bots launch alpha --engine shell --workspace . && {hive} submit "git status" --wait',
        ),
    ]
    shown = [f"  {click.style(name.ljust(8), dim=True)}  {text}" for name, text in lines]
    return "\n".join([click.style(f"The hive is ready after {took_s:.1f} s.", fg="green", bold=True), *shown])


def command() -> str:
    """What to type for `hive` where you are."""
    if shutil.which("hive"):
        return "hive"
    return "./hive" if Path.cwd() == ROOT else shlex.quote(str(ROOT / "hive"))
