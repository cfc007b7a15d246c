"""Runs programs for engines: boxed in, in a process group of their own, their output streamed and capped."""

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final, cast

from bots.engines import Emit, Work
from bots.sandbox import CHOICES, SandboxReport, jail_argv
from shared.contracts.orchestrator.commands import Done, End, Undone
from shared.contracts.orchestrator.facts import TaskError
from shared.runtime.clock import monotonic

CHANNELS: Final = {1: "out", 2: "err"}
END_GRACE_S: Final = 0.3  # from SIGTERM to SIGKILL; a cut-off bot has one second in all
DRAIN_WITHIN_S: Final = 1.0  # what a program that fled its group may keep a pipe open for
ADDRESS_SPACE_BYTES: Final = 16 * 1024**3
FILE_BYTES: Final = 4 * 1024**3
OPEN_FILES: Final = 4096

# The number of processes is left alone: the kernel counts it for the whole user, not for one program.
LIMITS: Final = {"as": ADDRESS_SPACE_BYTES, "fsize": FILE_BYTES, "nofile": OPEN_FILES, "core": 0}


@dataclass(frozen=True)
class Program:
    """What to run, and what it reads."""

    argv: tuple[str, ...]
    stdin: str | None


class Programs:
    """Runs programs in one bot's environment and box."""

    def __init__(
        self, environment: Mapping[str, str], hidden: Sequence[Path], sandbox: SandboxReport
    ) -> None:
        self._environment = dict(environment)
        self._hidden = tuple(folder.resolve() for folder in hidden)
        self._sandbox = sandbox

    async def run(self, program: Program, work: Work, out: Emit) -> End:
        """Its end as the task's end; cancelled, it ends the program with all its group."""
        if self._sandbox.mechanism not in CHOICES:
            return _refused("sandbox_unavailable", self._sandbox.sentence)
        ours, theirs = os.pipe()
        try:
            running = await self._start(program, work, out, theirs)
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
            return _refused("program_not_started", f"{program.argv[0]}: {trouble}")
        output = out.output(exit_code=code)
        if code == 0:
            return Done(output=output)
        how = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
        detail = f"{program.argv[0]} {how}{_last_line(output.text)}"
        return Undone(error=TaskError(code="exit_nonzero", detail=detail), output=output)

    async def _start(self, program: Program, work: Work, out: Emit, status: int) -> "Running":
        left_s = max(1, int(work.deadline - monotonic()) + 1)
        argv = jail_argv(
            status,
            self._sandbox.mechanism,
            hidden=self._hidden,
            kept=work.workspace,
            limits={**LIMITS, "cpu": left_s * (os.cpu_count() or 1)},
            argv=program.argv,
        )
        _, running = await asyncio.get_running_loop().subprocess_exec(
            lambda: Running(out),
            *argv,
            cwd=work.workspace,
            env={**self._environment, "HOME": str(work.workspace), "PWD": str(work.workspace)},
            stdin=DEVNULL if program.stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            pass_fds=(status,),
        )
        if program.stdin is not None:
            running.feed(program.stdin.encode())
        return running


class Running(asyncio.SubprocessProtocol):
    """A program while it runs: hears it, and sees it end. Whatever happens, nobody of its group is left.

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
            _signal_group(self._transport.get_pid(), signal.SIGKILL)  # what it left in the background
            await asyncio.wait([self._closed], timeout=DRAIN_WITHIN_S)
        finally:
            if not self._exited.done():
                await self._end()
            self._transport.close()
        code = self._transport.get_returncode()
        assert code is not None
        return code

    async def _end(self) -> None:
        _signal_group(self._transport.get_pid(), signal.SIGTERM)
        await asyncio.wait([self._exited], timeout=END_GRACE_S)
        _signal_group(self._transport.get_pid(), signal.SIGKILL)
        await asyncio.wait([self._exited], timeout=DRAIN_WITHIN_S)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # before it has a group of its own, or after all of it ended
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _refused(code: str, detail: str) -> Undone:
    return Undone(error=TaskError(code=code, detail=detail), retryable=False)
