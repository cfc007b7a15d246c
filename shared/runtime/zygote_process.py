"""The zygote itself: one thread, no loop, no connection; it imports, freezes, and forks when asked."""

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from setproctitle import setproctitle

from shared.kernel.codec import encode
from shared.runtime.zygote import LENGTH_BYTES, REQUEST_BYTES_MAX, Exit, Forked, ForkRequest

FDS_MAX: Final = 16
END_GRACE_S: Final = 5.0  # what children get between SIGTERM and SIGKILL when the owner is gone
BAD_START: Final = 70  # the exit code of a child that could not begin

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)
_requests = msgspec.json.Decoder(ForkRequest)


def main(control_fd: int, words: Sequence[str]) -> NoReturn:
    """Import the modules named after the process' name, then serve."""
    name, *modules = words
    gc.disable()  # a collection now would leave holes in pages that the children shall share
    for module in modules:
        _import(module)
    setproctitle(f"hive: {name}")
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=control_fd))


def serve(control: socket.socket) -> NoReturn:
    """Fork on request and report exits until the control socket closes; then end every child and itself."""
    control.settimeout(None)
    heard, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    children: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(heard, select.POLLIN)
    with contextlib.suppress(ConnectionError):
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if heard in ready:
                signals = os.read(heard, 4096)
                _reap(children, control)
                if signal.SIGTERM in signals:
                    break
            if control.fileno() in ready:
                request = _receive(control)
                if request is None:
                    break
                _answer(request, children, control, (heard, woken))
    _end(children)
    sys.exit(0)


def _import(module: str) -> None:
    """What is not there is said and left out: a hive may be built without a service."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"zygote: {module} is left out: {error}\n")


def _receive(control: socket.socket) -> tuple[ForkRequest, list[int]] | None:
    head, fds, _, _ = socket.recv_fds(control, LENGTH_BYTES, FDS_MAX, socket.MSG_WAITALL)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    assert length <= REQUEST_BYTES_MAX, length
    body = control.recv(length, socket.MSG_WAITALL)
    return (_requests.decode(body), fds) if len(body) == length else None


def _answer(
    request: tuple[ForkRequest, list[int]], children: set[int], control: socket.socket, ours: tuple[int, int]
) -> None:
    wanted, fds = request
    sys.stdout.flush()
    sys.stderr.flush()
    owner = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        answer = Forked(error=f"fork: {error}")
    else:
        if pid == 0:
            control.close()
            for fd in ours:
                os.close(fd)
            _become(wanted, fds, owner)
        children.add(pid)
        answer = Forked(pid=pid)
    for fd in fds:
        os.close(fd)
    _send(control, answer)


def _become(wanted: ForkRequest, fds: list[int], owner: int) -> NoReturn:
    """In the child: be a process of its own, then call the target, then leave as any interpreter would."""
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:  # it died before it could take us along
            os._exit(0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        setproctitle(f"hive: {wanted.name}")
        log = os.open(wanted.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        os.environ.clear()  # noqa: TID251  a new process gets a new environment
        os.environ.update(wanted.env)  # noqa: TID251
        os.environ.update({name: str(fd) for name, fd in zip(wanted.fds, fds, strict=True)})  # noqa: TID251
        if wanted.cwd is not None:
            os.chdir(wanted.cwd)
        for name, value in wanted.limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
        module, _, function = wanted.target.partition(":")
        entry = getattr(importlib.import_module(module), function)
    except Exception:  # noqa: BLE001  whatever it is, it is said in the child's log and its exit code
        traceback.print_exc()
        os._exit(BAD_START)
    gc.enable()
    try:
        code = entry()
    except Exception:  # noqa: BLE001  the same: nothing of a child may unwind into the zygote's own loop
        traceback.print_exc()
        code = 1
    sys.exit(code)


def _reap(children: set[int], control: socket.socket | None) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            sweep(pid)
        if control is not None:
            _send(control, Exit(pid=pid, signal=-code) if code < 0 else Exit(pid=pid, code=code))


def sweep(session: int) -> None:
    """Kill what a child that died unasked left behind: every process of its session, whatever its group."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[3]) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue  # it ended meanwhile


def _end(children: set[int]) -> None:
    for pid in children:
        _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_GRACE_S
    while children and time.monotonic() < deadline:
        _reap(children, None)
        time.sleep(0.02)
    for pid in sorted(children):
        _signal_group(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        sweep(pid)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # it has no group yet, or is no more
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _send(control: socket.socket, word: Forked | Exit) -> None:
    data = encode(word)
    control.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)
