"""Runs programs for engines: boxed in, in a process group of their own, their output streamed and capped."""

import asyncio
import codecs
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final, cast

from bots import kernel
from bots.engines import Emit, Work
from bots.sandbox import CHOICES, SandboxReport, jail_argv
from shared.contracts.orchestrator.commands import Done, End, Undone
from shared.contracts.orchestrator.facts import TaskError
from shared.runtime.clock import monotonic

CHANNELS: Final = {1: "out", 2: "err"}
END_GRACE_S: Final = 0.3  # from SIGTERM to SIGKILL; a cut-off bot has one second in all
DRAIN_WITHIN_S: Final = 1.0  # for the keeper to end all that is left, and for pipes to close
END_BY: Final = (
    (signal.SIGTERM, END_GRACE_S),
    (signal.SIGQUIT, DRAIN_WITHIN_S),
    (signal.SIGKILL, DRAIN_WITHIN_S),
)
UNSEEN: Final = re.compile("No such file|Permission denied")
FATAL_SIGNALS: Final = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL}
LAST_WORDS_CHARS: Final = 4_000
ADDRESS_SPACE_BYTES: Final = 16 * 1024**3
FILE_BYTES: Final = 4 * 1024**3
OPEN_FILES: Final = 4096

MIB: Final = 1024**2
OUT_OF_MEMORY: Final = re.compile(
    r"MemoryError|[Oo]ut of memory|[Cc]annot allocate|bad_alloc|ENOMEM|memory exhausted|failed to map segment"
)
"""How programs say that they got no more; the kernel tells nobody else."""

# The number of processes is left alone: the kernel counts it for the whole user, not for one program.
LIMITS: Final = {"as": ADDRESS_SPACE_BYTES, "fsize": FILE_BYTES, "nofile": OPEN_FILES, "core": 0}


@dataclass(frozen=True)
class Program:
    """What to run, and what it reads."""

    argv: tuple[str, ...]
    stdin: str | None


@dataclass(frozen=True)
class Room:
    """What the programs of one bot may see and use.

    `hidden` and `readable` are folders: hidden wins. In `tmp` each run gets a folder of its own. `memory_mb`
    is what each process of a program may have, counted in addresses (RLIMIT_AS); None: 16 GiB.
    """

    sandbox: SandboxReport
    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    tmp: Path
    memory_mb: int | None = None

    @property
    def limits(self) -> dict[str, int]:
        """As resource limits."""
        return LIMITS if self.memory_mb is None else {**LIMITS, "as": self.memory_mb * MIB}


class Programs:
    """Runs programs in one bot's environment and box."""

    def __init__(self, environment: Mapping[str, str], room: Room) -> None:
        self._environment = dict(environment)
        self._room = room

    async def run(self, program: Program, work: Work, out: Emit) -> End:
        """Its end as the task's end; cancelled, it ends the program with all that it started."""
        if self._room.sandbox.mechanism not in CHOICES:
            return _refused("sandbox_unavailable", self._room.sandbox.sentence)
        self._room.tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        tmp = Path(tempfile.mkdtemp(prefix="run-", dir=self._room.tmp))
        try:
            return await self._run(program, work, out, tmp)
        finally:
            _remove(tmp)

    async def _run(self, program: Program, work: Work, out: Emit, tmp: Path) -> End:
        ours, theirs = os.pipe()
        try:
            running = await self._start(program, work, out, theirs, tmp)
        except (OSError, ValueError) as error:
            os.close(ours)
            return _refused("program_not_started", f"{program.argv[0]}: {error}")
        finally:
            os.close(theirs)
        with os.fdopen(ours, "rb") as status:
            code = await running.ended()
            os.set_blocking(status.fileno(), False)
            trouble = (status.read() or b"").decode(errors="replace")
        if trouble:
            return _refused("program_not_started", f"{program.argv[0]}: {trouble}{self._unseen(trouble)}")
        return self._end(program, code, out)

    def _end(self, program: Program, code: int, out: Emit) -> End:
        output = out.output(exit_code=code)
        if code == 0:
            return Done(output=output)
        how = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
        detail = f"{program.argv[0]} {how}{_last_line(output.text)}"
        if self._room.memory_mb is not None and OUT_OF_MEMORY.search(output.text[-LAST_WORDS_CHARS:]):
            why = (
                f"it wanted more than the {self._room.memory_mb} MB that memory_mb allows each process of "
                "this bot's programs; launch the bot with a higher `--memory`"
            )
            error = TaskError(code="memory_exceeded", detail=f"{detail}; {why}")
            return Undone(error=error, output=output, retryable=False)
        if self._room.memory_mb is not None and -code in FATAL_SIGNALS:
            detail += f" (its bot has memory_mb={self._room.memory_mb}: it may have met that limit)"
        return Undone(error=TaskError(code="exit_nonzero", detail=detail), output=output)

    def _unseen(self, trouble: str) -> str:
        if self._room.sandbox.mechanism == kernel.OFF or not UNSEEN.search(trouble):
            return ""
        return (
            "; a program sees its workspace, /tmp, the system's folders and those of PATH: "
            "show it more with HIVE_SANDBOX_READ at `hive up`"
        )

    async def _start(self, program: Program, work: Work, out: Emit, status: int, tmp: Path) -> "Running":
        left_s = max(1, int(work.deadline - monotonic()) + 1)
        mechanism = self._room.sandbox.mechanism
        box = kernel.Box(mechanism, self._room.hidden, self._room.readable, work.workspace, tmp)
        limits = {**self._room.limits, "cpu": left_s * (os.cpu_count() or 1)}
        own = {
            "HOME": str(work.workspace),
            "PWD": str(work.workspace),
            "TMPDIR": str(kernel.TMP if mechanism == kernel.NAMESPACE else tmp),
        }
        _, running = await asyncio.get_running_loop().subprocess_exec(
            lambda: Running(out),
            *jail_argv(status, box, limits=limits, argv=program.argv),
            cwd=work.workspace,
            env={**self._environment, **own},
            stdin=DEVNULL if program.stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            pass_fds=(status,),
        )
        if program.stdin is not None:
            running.feed(program.stdin.encode())
        return running


class Running(asyncio.SubprocessProtocol):
    """A program while it runs: hears it, and sees it end.

    The process that is known here is not the program, but the one that the jail leaves behind to see to it
    that nobody is left: SIGTERM it hands on, SIGQUIT makes it end the program and all that came of it.

    asyncio's own `Process.wait` waits for the pipes as well, in some versions: a program left in the
    background would hold it up for ever.
    """

    def __init__(self, out: Emit) -> None:
        loop = asyncio.get_running_loop()
        self._out = out
        self._exited: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in CHANNELS}
        self._transport: asyncio.SubprocessTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)  # uvloop's is none by class

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It said something."""
        if text := self._decoders[fd].decode(data):
            self._out.write(text, CHANNELS[fd])

    def pipe_connection_lost(self, fd: int, _: Exception | None) -> None:
        """It has said all it will on that channel, or need not read more."""
        if fd in CHANNELS and (rest := self._decoders[fd].decode(b"", final=True)):
            self._out.write(rest, CHANNELS[fd])

    def process_exited(self) -> None:
        """It ended."""
        if not self._exited.done():
            self._exited.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """It ended, and so did all that held its pipes."""
        if not self._closed.done():
            self._closed.set_result(None)

    def feed(self, data: bytes) -> None:
        """What it may read; it need not."""
        pipe = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        pipe.write(data)
        pipe.close()

    async def ended(self) -> int:
        """Its exit code, negative for a signal, when it has ended and was heard to the end."""
        try:
            await asyncio.shield(self._exited)
            await asyncio.wait([self._closed], timeout=DRAIN_WITHIN_S)
        finally:
            if not self._exited.done():
                await self._end()
            self._transport.close()
        code = self._transport.get_returncode()
        assert code is not None
        return code

    async def _end(self) -> None:
        for number, patience_s in END_BY:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._transport.get_pid(), number)
            await asyncio.wait([self._exited], timeout=patience_s)
            if self._exited.done():
                return


def _remove(folder: Path) -> None:
    """Whatever a program has made of it; in a namespace, it is not even root who did."""

    def let_in(remove: Callable[[str], object], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            remove(path)

    shutil.rmtree(folder, onerror=let_in)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _refused(code: str, detail: str) -> Undone:
    return Undone(error=TaskError(code=code, detail=detail), retryable=False)
