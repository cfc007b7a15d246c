"""The options that every command has, and how a command reaches a hive."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.failure import Exit, Failure

if TYPE_CHECKING:
    import httpx

    from cli.client import Client
    from cli.data_dir import DataDir


@dataclass(frozen=True)
class Session:
    """What the options and the environment said. `transport` None: the network."""

    data: Path
    url: str | None
    key: str | None
    as_json: bool
    transport: "httpx.BaseTransport | None" = None

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """A connection to the hive that is meant."""
        from cli.client import Client  # noqa: PLC0415 - httpx is slow to import, and help does not need it

        url, key = self.where()
        with Client(url, key, transport=self.transport) as client:
            yield client

    def where(self) -> tuple[str, str]:
        """The address and the key: as told, else those of the hive that runs here."""
        from cli.data_dir import DataDir  # noqa: PLC0415 - the same

        running = DataDir(self.data).running()
        if self.url is None and running is None:
            raise Failure(
                "No hive is running here.",
                exit_code=Exit.UNAVAILABLE,
                code="not_running",
                why=f"{self.data} says of none, and HIVE_URL is not set.",
                todo="`hive up`, or set HIVE_URL and HIVE_KEY to use one elsewhere.",
            )
        url = self.url or (running.url if running else "")
        local = running is not None and running.url.rstrip("/") == url.rstrip("/")
        key = self.key or (_read_key(Path(running.admin_key)) if running and local else None)
        if key is None:
            raise Failure(
                f"No key for {url}.",
                exit_code=Exit.USAGE,
                code="no_key",
                why="Its own machine's admin key is used only for the hive that runs here.",
                todo="set HIVE_KEY, or pass --access-key; `hive keys create NAME` there makes one.",
            )
        return url, key


def _read_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Failure(
            f"The admin key {path} cannot be read.",
            exit_code=Exit.REFUSED,
            code="admin_key_unreadable",
            why=error.strerror or str(error),
            todo="run this as the user who ran `hive up`, or set HIVE_KEY.",
        ) from error


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("state_home", "--state-home", envvar="XDG_STATE_HOME", hidden=True)(command)
    return click.option(
        "--data",
        envvar="HIVE_DATA",
        show_envvar=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Data directory of the hive on this machine.",
    )(command)


@dataclass(frozen=True)
class Here:
    """This machine's data directory, and how to answer."""

    data: "DataDir"
    as_json: bool


def local(command: Callable[..., None]) -> Callable[..., None]:
    """A command about this machine's data directory, whose first argument is a Here: `--data`, `--json`."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        from cli.data_dir import DataDir  # noqa: PLC0415 - not needed for help

        here = Here(DataDir(_folder(options)), options.pop("as_json"))
        with telling(as_json=here.as_json):
            command(here, **options)

    return _data_options(_json_option(wrapped))


def talking(command: Callable[..., None]) -> Callable[..., None]:
    """A command that talks HTTP; its first argument is a Session. Adds the options that say to which hive."""

    @functools.wraps(command)
    @click.pass_context
    def wrapped(context: click.Context, /, **options: Any) -> None:
        session = Session(
            data=_folder(options),
            url=options.pop("url"),
            key=options.pop("access_key"),
            as_json=options.pop("as_json"),
            transport=context.obj,
        )
        with telling(as_json=session.as_json):
            command(session, **options)

    key = click.option("access_key", "--access-key", envvar="HIVE_KEY", show_envvar=True, help="Access key.")
    url = click.option("--url", envvar="HIVE_URL", show_envvar=True, help="Address of the hive.")
    return _data_options(_json_option(url(key(wrapped))))


def _folder(options: dict[str, Any]) -> Path:
    """The data directory: as told, else under the user's state directory."""
    from cli.data_dir import default_path  # noqa: PLC0415 - not needed for help

    told, state_home = options.pop("data"), options.pop("state_home")
    path: Path = (told or default_path(state_home)).expanduser().absolute()
    return path


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("as_json", "--json", is_flag=True, help="Answer as JSON.")(command)


@contextmanager
def telling(*, as_json: bool) -> Iterator[None]:
    """A failure is told in the form that was asked for."""
    try:
        yield
    except Failure as failure:
        failure.as_json = as_json
        raise
