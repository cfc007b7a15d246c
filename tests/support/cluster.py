"""Three brokers of one cluster, as `hive cluster init` prepares them; each can be killed and come back."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shared.contracts.naming import EVENTS
from shared.runtime.broker import server_binary
from tests.support.embedded import ROOT

NAMES = ("one", "two", "three")


class _Detail(msgspec.Struct):
    name: str
    cluster: dict[str, object] = {}


class _Account(msgspec.Struct):
    stream_detail: list[_Detail] = []


class _Streams(msgspec.Struct):
    account_details: list[_Account] = []


class BrokerCluster:
    """`start`, `kill` by name; `leader` of a stream."""

    def __init__(self, folder: Path, *, durability: str = "os") -> None:
        self.folder = folder
        self._ports = {name: _free_ports(3) for name in NAMES}
        nodes = [f"--node={name}=127.0.0.1:{':'.join(map(str, self._ports[name]))}" for name in NAMES]
        typed = [
            "cluster",
            "init",
            str(folder),
            *nodes,
            f"--store={folder}/store",
            f"--durability={durability}",
        ]
        said = subprocess.run(
            [sys.executable, "-m", "cli", *typed, "--json"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        told = msgspec.json.decode(said)
        self.urls: str = told["nats"]
        self.keys = Path(told["creds_dir"])
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Begin, without waiting."""
        for name in names or NAMES:
            with (self.folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [str(server_binary()), "-c", str(self.folder / f"{name}.conf")], stdout=log, stderr=log
                )

    def kill(self, name: str) -> None:
        """As a crash would."""
        self._running[name].kill()
        self._running[name].wait()

    def close(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(20)

    def healthy(self, name: str) -> bool:
        """Whether a node serves, and has caught up with the others."""
        return self._ask(name, "/healthz") is not None

    def leader(self, stream: str = EVENTS) -> str | None:
        """Which node leads a stream."""
        for name in NAMES:
            answer = self._ask(name, "/jsz?streams=1")
            for account in msgspec.json.decode(answer, type=_Streams).account_details if answer else []:
                for detail in account.stream_detail:
                    if detail.name == stream and detail.cluster.get("leader"):
                        return str(detail.cluster["leader"])
        return None

    def _ask(self, name: str, path: str) -> bytes | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[name][2], timeout=2.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read() if answer.status == http.client.OK else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _free_ports(count: int) -> Sequence[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
