"""Starts processes by forking one that has already imported everything: cheap in time and in memory.

The zygote (shared/runtime/zygote_process.py) is a fresh interpreter, so it has none of its owner's threads,
loops or connections, whatever the owner had when it began. It lives as long as the control socket that its
owner holds: when the owner ends in any way, the zygote ends its children and itself.
"""

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable

REQUEST_BYTES_MAX: Final = 131_072  # less than a socket's buffer: one request at a time never blocks
LENGTH_BYTES: Final = 4
ROOT: Final = Path(__file__).resolve().parents[2]
BOOTSTRAP: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from shared.runtime.zygote_process import main; main(int(sys.argv[2]), sys.argv[3:])"
)


class ForkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Run `target` (`module:function`) in a new process.

    `env` is its whole environment; `fds` are the variables that tell it the numbers of the descriptors sent
    along, in their order; `limits` are resource limits by name (`nofile`), soft and hard alike.
    """

    name: str
    target: str
    env: dict[str, str]
    log: str
    cwd: str | None = None
    fds: tuple[str, ...] = ()
    limits: dict[str, int] = {}


class Forked(msgspec.Struct, frozen=True, kw_only=True, tag="forked", tag_field="is"):
    """The answer to a request: the process id, or why there is none."""

    pid: int = 0
    error: str = ""


class Exit(msgspec.Struct, frozen=True, kw_only=True, tag="exit", tag_field="is"):
    """A child ended: by itself with `code`, or killed by `signal`."""

    pid: int
    code: int | None = None
    signal: int | None = None

    @property
    def reason(self) -> str:
        """`exit 1` or `signal 9`."""
        return f"exit {self.code}" if self.signal is None else f"signal {self.signal}"


Word = Forked | Exit
_words = msgspec.json.Decoder(Forked | Exit)


class Zygote:
    """The owner's end: fork requests go out one at a time, exits come in as they happen."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._received = bytearray()
        self._exits: deque[Exit] = deque()
        self._heard = asyncio.Event()
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[Forked] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone = False

    @classmethod
    def start(
        cls,
        modules: Sequence[str],
        *,
        name: str = "zygote",
        log: Path | None = None,
        python: str | None = None,
    ) -> "Zygote":
        """Start the process; it imports `modules` while the owner goes on. No loop is needed yet."""
        ours, theirs = socket.socketpair()
        output = None if log is None else log.open("ab")
        try:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and code
                [
                    python or sys.executable,
                    *("-P", "-c", BOOTSTRAP, str(ROOT), str(theirs.fileno()), name, *modules),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C in the owner's terminal is the owner's to answer
            )
        finally:
            theirs.close()
            if output is not None:
                output.close()
        ours.settimeout(0)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The process id of the zygote itself."""
        return self._process.pid

    async def fork(
        self,
        name: str,
        target: str,
        *,
        env: Mapping[str, str],
        stdout: Path,
        cwd: Path | None = None,
        fds: Mapping[str, int] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> int:
        """Start `module:function` in a new process and return its id; Unavailable when the zygote is gone.

        `fds` maps variables to open descriptors: the child finds each at the number its variable says.
        """
        sent = dict(fds or {})
        request = encode(
            ForkRequest(
                name=name,
                target=target,
                env=dict(env),
                log=str(stdout),
                cwd=None if cwd is None else str(cwd),
                fds=tuple(sent),
                limits=dict(limits or {}),
            )
        )
        assert len(request) <= REQUEST_BYTES_MAX, f"{name}: a fork request of {len(request)} bytes"
        async with self._turn:
            self._attach()
            if self._gone:
                raise Unavailable("the zygote is gone")
            assert self._loop is not None
            self._waiting = self._loop.create_future()
            head = len(request).to_bytes(LENGTH_BYTES, "big")
            try:
                socket.send_fds(self._control, [head], list(sent.values()))
                self._control.sendall(request)
                forked = await self._waiting
            except OSError as error:
                raise Unavailable(f"the zygote is gone: {error}") from error
            finally:
                self._waiting = None
        if forked.error:
            raise Unavailable(f"{name}: {forked.error}")
        return forked.pid

    async def exits(self) -> AsyncIterator[Exit]:
        """Each child's end, as it happens; ends itself when the zygote is gone."""
        self._attach()
        while True:
            while self._exits:
                yield self._exits.popleft()
            if self._gone:
                return
            self._heard.clear()
            await self._heard.wait()

    def close(self, timeout_s: float = 10.0) -> None:
        """Let go of the control socket: the zygote ends its children, then itself. Waits until that is so."""
        if self._loop is not None and not self._loop.is_closed() and not self._gone:
            self._loop.remove_reader(self._control.fileno())
        self._lost()
        self._control.close()
        self._process.wait(timeout_s)

    def _attach(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._control.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            assert self._loop is not None
            self._loop.remove_reader(self._control.fileno())
            self._lost()
            return
        self._received += data
        while len(self._received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "big")
            if len(self._received) < end:
                return
            self._on_word(_words.decode(self._received[LENGTH_BYTES:end]))
            del self._received[:end]

    def _on_word(self, word: Word) -> None:
        match word:
            case Forked():
                if self._waiting is not None and not self._waiting.done():
                    self._waiting.set_result(word)
            case Exit():
                self._exits.append(word)
                self._heard.set()

    def _lost(self) -> None:
        self._gone = True
        self._heard.set()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unavailable("the zygote is gone"))
