"""What the zygote's children do in its tests."""

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path


def idle() -> None:
    signal.pause()


def end_with_three() -> int:
    return 3


def fall() -> None:
    raise ConnectionError("a child's own trouble")


def tell() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(f"{Path.cwd()} {sorted(os.environ)} {soft} {os.getpgid(0) == os.getpid()}", file=sys.stdout)


def answer_on_inherited_socket() -> None:
    listening = socket.socket(fileno=int(os.environ["LISTEN_FD"]))
    peer, _ = listening.accept()
    peer.sendall(b"hello")
    peer.close()


def leave_a_child_behind() -> None:
    left = subprocess.Popen(["sleep", "600"], process_group=0)
    print(left.pid, flush=True)
    signal.pause()


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        signal.pause()
