"""The data directory of one hive: what lies where, who holds it, and where the running hive is found."""

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from cli.failure import Exit, Failure
from shared.runtime import private


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`hive.json`: the hive that runs here. `pid` and `started`, its start time, name one process."""

    pid: int
    started: float
    url: str
    nats_url: str
    admin_key: str
    host: str
    port: int
    durability: str
    since: str
    ready: bool = False
    replicas: int = 1
    monitor_url: str | None = None
    broker_pid: int | None = None
    creds: str | None = None  # of the broker user `ops`
    zygote_pid: int | None = None
    zygote_started: float = 0.0
    services: dict[str, int] = {}
    probes: dict[str, str] = {}


class Held(Exception):
    """Another hive has this data directory. `holder` is what it wrote of itself, None if nothing yet."""

    def __init__(self, holder: Running | None) -> None:
        super().__init__("the data directory is held")
        self.holder = holder


@dataclass(frozen=True)
class DataDir:
    """The folder and what lies in it."""

    path: Path

    @property
    def running_file(self) -> Path:
        """Where the running hive says its addresses."""
        return self.path / "hive.json"

    @property
    def lock_file(self) -> Path:
        """Locked as long as a hive runs."""
        return self.path / "hive.lock"

    @property
    def admin_key(self) -> Path:
        """The key of whoever may read this folder."""
        return self.path / "admin.key"

    @property
    def keys(self) -> Path:
        """The broker's operator, accounts and users."""
        return self.path / "keys"

    @property
    def broker(self) -> Path:
        """The broker's store and configuration."""
        return self.path / "nats"

    @property
    def logs(self) -> Path:
        """One file for each service."""
        return self.path / "logs"

    def log_of(self, service: str) -> Path:
        """The log of one service, of `nats-server` or of the `supervisor`."""
        return self.logs / f"{service}.log"

    def bot_log(self, bot: str) -> Path:
        """The log of one bot."""
        return self.logs / "bots" / f"{bot}.log"

    def make(self) -> None:
        """The folder, and those in it that the supervisor writes; closed to others."""
        try:
            for folder in (self.path, self.logs, self.broker):
                private.make_folder(folder)
        except OSError as error:
            raise Failure(
                f"{self.path} cannot be made a data directory.",
                exit_code=Exit.FAILED,
                code="data_unusable",
                why=f"{error.strerror}: {error.filename}",
                todo="name another with --data or HIVE_DATA.",
            ) from error

    def lock(self) -> IO[str]:
        """Hold the folder until the file is closed or the process ends; Held if another does."""
        file = self.lock_file.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Held(self.running()) from None
        return file

    def is_held(self) -> bool:
        """Whether a hive runs here now."""
        if not self.lock_file.exists():
            return False
        try:
            self.lock().close()
        except Held:
            return True
        return False

    def running(self) -> Running | None:
        """What the hive that runs here, or ran here last and was killed, wrote about itself."""
        try:
            return msgspec.json.decode(self.running_file.read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_running(self, running: Running) -> None:
        """Say where the hive is found, all at once."""
        text = msgspec.json.format(msgspec.json.encode(running)).decode()
        private.write(self.running_file, text)

    def forget_running(self) -> None:
        """The hive has stopped."""
        self.running_file.unlink(missing_ok=True)


def default_path(state_home: str | None) -> Path:
    """Where data lies when nobody said: under the user's state directory."""
    base = Path(state_home) if state_home else Path.home() / ".local" / "state"
    return base / "hive"
