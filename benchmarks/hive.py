"""An embedded hive under measurement: started as a person would, its processes known by name."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import processes
from benchmarks.http import Client
from cli.data_dir import DataDir, Running

ROOT: Final = Path(__file__).parents[1]
BROKER: Final = "nats-server"
BOT: Final = "bot"
HOST: Final = "bots"
ZYGOTE: Final = "zygote"


@dataclass(frozen=True)
class Hive:
    """One that runs, in a data directory of its own."""

    data: DataDir

    @property
    def running(self) -> Running:
        """Its addresses and process ids."""
        running = self.data.running()
        assert running is not None, "it does not run any more"
        return running

    def client(self) -> Client:
        """A connection to its API, with the admin key."""
        running = self.running
        return Client(running.host, running.port, Path(running.admin_key).read_text().strip())

    def groups(self) -> dict[str, list[int]]:
        """Every process, by what it is: a service by name, `bots` the host, then `bot` and `zygote`."""
        running = self.running
        assert running.broker_pid is not None
        groups: dict[str, list[int]] = {"supervisor": [running.pid], BROKER: [running.broker_pid]}
        groups |= {name: [pid] for name, pid in running.services.items()}
        known = {pid for pids in groups.values() for pid in pids}
        bots = [pid for pid in processes.tree(running.services[HOST]) if not processes.is_zygote(pid)]
        for pid in processes.tree(running.pid):
            if pid not in known:
                groups.setdefault(BOT if pid in bots else ZYGOTE, []).append(pid)
        return groups


@contextlib.contextmanager
def started(folder: Path, durability: str) -> Iterator[Hive]:
    """A hive that is ready; stopped at the end."""
    hive = Hive(DataDir(folder))
    _cli("up", "--detach", f"--data={folder}", f"--durability={durability}", "--json")
    try:
        yield hive
    finally:
        _cli("down", f"--data={folder}", "--json")


def _cli(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
