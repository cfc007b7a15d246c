"""The stack in containers, under a project name and a port of the test's own."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
UP_WITHIN_S = 600.0
READY_WITHIN_S = 120.0


class Stack:
    """What `docker-compose up` started, seen from this machine."""

    def __init__(self, folder: Path) -> None:
        self.project = f"hive-test-{secrets.token_hex(4)}"
        self.port = _free_port()
        self.key = f"hive_{secrets.token_urlsafe(32)}"
        key_file = folder / "admin-key"
        key_file.write_text(f"{self.key}\n")
        key_file.chmod(0o444)  # the container's user reads it; the folder keeps others away
        self._env = {
            **os.environ,
            "HIVE_PORT": str(self.port),
            "HIVE_FIRST_KEY_FILE": str(key_file),
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_DOCKER_CLI_BUILD": "0",
        }
        standalone = shutil.which("docker-compose")
        self._command = [standalone] if standalone else ["docker", "compose"]

    def compose(self, *arguments: str, within_s: float = 120.0) -> str:
        """Run compose on this project; what it said."""
        done = subprocess.run(
            [*self._command, "-p", self.project, *arguments],
            cwd=ROOT,
            env=self._env,
            timeout=within_s,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        found = self.compose("ps", "-q", service).strip()
        assert found, f"{service} has no container"
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        told = subprocess.run(["docker", "inspect", self.container(service)], capture_output=True, check=True)
        document: dict[str, Any] = json.loads(told.stdout)[0]
        return document

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something inside a service's container."""
        return subprocess.run(
            ["docker", "exec", self.container(service), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def kill(self, service: str) -> None:
        """End its first process as a crash does; after `docker kill` the engine would let it lie."""
        os.kill(self.inspect(service)["State"]["Pid"], signal.SIGKILL)

    def restarts(self, service: str) -> int:
        """How often the engine started it again."""
        count: int = self.inspect(service)["RestartCount"]
        return count

    def client(self) -> httpx.Client:
        """The API over the published port, with the first key."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=40.0,
        )

    def logs(self) -> str:
        """The last words of every container."""
        return self.compose("logs", "--no-color", "--tail=40")


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Built, started, ready; gone with its volumes at the end."""
    hive = Stack(folder)
    try:
        hive.compose("up", "--build", "--detach", within_s=UP_WITHIN_S)
        with hive.client() as client:
            assert until(lambda: client.get("/readyz").status_code == 200, READY_WITHIN_S), hive.logs()
        yield hive
    finally:
        hive.compose("down", "--volumes", "--timeout", "20")


def until(check: Callable[[], bool], within_s: float) -> bool:
    """Whether a check came true in time; an API that is away is not true yet."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if check():
                return True
        time.sleep(0.2)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
