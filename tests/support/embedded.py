"""A whole embedded hive for a test: `hive up` as a child process, its HTTP face, its log."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from cli.data_dir import DataDir, Running
from shared.kernel.errors import Unavailable
from shared.runtime.connection import Connection, connect
from shared.runtime.jetstream import JetStreamStore
from shared.runtime.publish import Publisher
from shared.runtime.settings import load
from shared.runtime.store import Stored

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 90.0
KINDS = ("task", "bot", "key", "message", "broadcast")


class EmbeddedHive:
    """`hive up` on a data directory of the test's own."""

    def __init__(
        self,
        folder: Path,
        *,
        durability: str = "os",
        roots: tuple[Path, ...] = (ROOT,),
        more: tuple[str, ...] = (),
        keys: Path | None = None,
    ) -> None:
        self.data = DataDir(folder / "hive")
        self.output = folder / "up.log"
        self._command = [
            *(sys.executable, "-m", "cli", "up", f"--data={self.data.path}", f"--durability={durability}"),
            *(f"--root={root}" for root in roots),
            *more,
        ]
        self._keys = keys or self.data.keys
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, without waiting until it is ready."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ},
            )

    async def ready(self) -> Running:
        """Wait until everything answers."""
        async with asyncio.timeout(READY_WITHIN_S):
            while (running := self.data.running()) is None or not running.ready:
                assert self._process is not None
                assert self._process.poll() is None, self.said()
                await asyncio.sleep(0.05)
        return running

    def running(self) -> Running:
        """Where it is found now: process ids change when something was killed."""
        running = self.data.running()
        assert running is not None
        return running

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Ask it to stop, and wait; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self) -> None:
        """As if it had been unplugged."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text()

    def client(self, **options: object) -> httpx.AsyncClient:
        """Its API, with the admin key."""
        running = self.running()
        return httpx.AsyncClient(
            base_url=running.url,
            headers={"Authorization": f"Bearer {Path(running.admin_key).read_text().strip()}"},
            timeout=30.0,
            **options,  # type: ignore[arg-type]
        )

    async def launch(self, name: str, **spec: object) -> None:
        """A bot, up."""
        async with self.client() as client:
            answer = await client.post("/v1/bots", params={"wait": 20}, json={"name": name, **spec})
        assert answer.status_code in {200, 201}, answer.text

    async def log(self) -> list[Stored]:
        """Every commit of the log, read as `ops`."""
        running = self.running()
        settings = load(
            {},
            sender="ops",
            nats_url=running.nats_url,
            creds=self._keys / "ops.creds",
            data=self.data.path,
        )
        connection = await connect(settings)
        publisher = Publisher(connection)
        try:
            return await _whole_log(connection, publisher)
        finally:
            await connection.close()


async def _whole_log(connection: Connection, publisher: Publisher) -> list[Stored]:
    store = JetStreamStore(connection, publisher)
    last = max([await store.version(kind, "*") for kind in KINDS])
    commits: list[Stored] = []
    async for batch in store.follow(KINDS, 0):
        commits += batch
        if batch[-1].sequence >= last:
            break
    return commits


@asynccontextmanager
async def embedded_hive(folder: Path, **options: object) -> AsyncIterator[EmbeddedHive]:
    """Started, ready, and stopped at the end, whatever happens."""
    hive = EmbeddedHive(folder, **options)  # type: ignore[arg-type]
    hive.start()
    try:
        await hive.ready()
        yield hive
    finally:
        with suppress(ProcessLookupError):
            hive.stop()


def kill(pid: int) -> bool:
    """End a process that the test's own hive started, as a crash would; False if it is gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def eventually(check: object, within_s: float) -> None:
    """Wait until an awaitable check answers something true."""
    until = time.monotonic() + within_s
    while True:
        with suppress(httpx.HTTPError, Unavailable):
            if await check():  # type: ignore[operator]
                return
        assert time.monotonic() < until, "it did not come to be in time"
        await asyncio.sleep(0.05)
