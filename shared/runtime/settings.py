"""What a process must know before the broker answers: read once, from the environment."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

SHELL_ALLOW = ("git", "ls", "cat", "head", "wc", "grep", "echo", "pwd", "date", "python3", "make")
DURABILITIES = ("fsync", "os")


class SettingsError(Exception):
    """A variable is missing or wrong; the text names it and says what to do."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One process' place in the hive.

    `durability`: what acknowledged means: `fsync` on disk, `os` handed to the operating system.
    """

    sender: str
    instance: str
    data: Path
    nats_url: str = "nats://127.0.0.1:4222"
    creds: Path | None = None
    colour: str = "blue"
    probe_port: int = 0
    probe_host: str = "127.0.0.1"
    http_host: str = "127.0.0.1"
    http_port: int = 0
    http_fd: int | None = None
    admin_key_file: Path | None = None
    durability: str = "fsync"
    roots: tuple[Path, ...] = ()
    host_id: str = "local"
    shell_allow: tuple[str, ...] = SHELL_ALLOW
    env_allow: tuple[str, ...] = ()
    sandbox_read: tuple[Path, ...] = ()
    otlp_endpoint: str | None = None
    log_level: str = "INFO"
    replicas: int = 1


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError("a whole number of 0 or more")
    return int(text)


def _port(text: str) -> int:
    port = _number(text)
    if port > 65_535:  # noqa: PLR2004 - the last TCP port
        raise ValueError("a port from 0 (any free one) to 65535")
    return port


def _replicas(text: str) -> int:
    if text not in {"1", "3", "5"}:
        raise ValueError("1, 3 or 5")
    return int(text)


def _durability(text: str) -> str:
    if text not in DURABILITIES:
        raise ValueError(f"one of {', '.join(DURABILITIES)}")
    return text


def _level(text: str) -> str:
    level = text.upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("one of DEBUG, INFO, WARNING, ERROR")
    return level


def _token(text: str) -> str:
    if not text or any(char in " .*>\t\r\n" for char in text):
        raise ValueError("one token of a subject: no spaces, dots, * or >")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "nats_url": ("HIVE_NATS_URL", str),
    "creds": ("HIVE_CREDS", Path),
    "sender": ("HIVE_SENDER", _token),
    "colour": ("HIVE_COLOUR", _token),
    "instance": ("HIVE_INSTANCE", str),
    "data": ("HIVE_DATA", Path),
    "probe_port": ("HIVE_PROBE_PORT", _port),
    "probe_host": ("HIVE_PROBE_HOST", str),
    "http_host": ("HIVE_HTTP_HOST", str),
    "http_port": ("HIVE_HTTP_PORT", _port),
    "http_fd": ("HIVE_HTTP_FD", _number),
    "admin_key_file": ("HIVE_ADMIN_KEY_FILE", Path),
    "durability": ("HIVE_DURABILITY", _durability),
    "roots": ("HIVE_ROOTS", _paths),
    "host_id": ("HIVE_HOST_ID", _token),
    "shell_allow": ("HIVE_SHELL_ALLOW", _names),
    "env_allow": ("HIVE_ENV_ALLOW", _names),
    "sandbox_read": ("HIVE_SANDBOX_READ", _paths),
    "otlp_endpoint": ("OTEL_EXPORTER_OTLP_ENDPOINT", str),
    "log_level": ("HIVE_LOG_LEVEL", _level),
    "replicas": ("HIVE_REPLICAS", _replicas),
}


def load(env: Mapping[str, str] | None = None, **defaults: Any) -> Settings:
    """The settings of this process; `defaults` stand where the environment is silent or empty."""
    env = os.environ if env is None else env  # noqa: TID251 - the only reader of it
    values: dict[str, Any] = {
        "instance": f"{socket.gethostname().split('.')[0]}-{os.getpid()}",
        "data": Path(".hive"),
        **defaults,
    }
    for field, (variable, read) in _READERS.items():
        text = env.get(variable, "")
        if not text:
            continue
        try:
            values[field] = read(text)
        except ValueError as error:
            raise SettingsError(f"{variable}={text!r}: must be {error}") from error
    if "sender" not in values:
        raise SettingsError(
            "HIVE_SENDER is not set: name this process' broker user, such as gateway or svc-orchestrator"
        )
    return Settings(**values)
