"""The command in a terminal of 80 columns, and a hive it talks to over real HTTP."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.cli.fake_hive import FakeHive

ROOT = Path(__file__).parents[2]
COLUMNS = 80
ENDED_WITHIN_S = 30
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def served(hive: FakeHive) -> Iterator[str]:
    """The hive, at an address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = hive(httpx.Request(self.command, f"http://hive.test{self.path}", content=body))
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def environment(url: str, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """What the command sees: nothing of who runs the tests."""
    own = {"HIVE_URL": url, "HIVE_KEY": "hive_test", "HIVE_DATA": str(folder), "TERM": "xterm-256color"}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **own, **more}


class Terminal:
    """One command with a terminal as its input, output and errors."""

    def __init__(self, words: tuple[str, ...], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            # The first to open a terminal in a session of its own gets its Ctrl-C.
            [
                "sh",
                "-c",
                'exec "$@" <"$0" >"$0" 2>&1',
                os.ttyname(slave),
                sys.executable,
                "-m",
                "cli",
                *words,
            ],
            cwd=ROOT,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def type(self, text: str) -> None:
        """As a person would; a control character does what the terminal makes of it."""
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        """Read until this has been shown, after what was waited for before."""
        while (found := plain(self.shown).find(text, self._seen)) < 0:
            assert self._read(), f"{text!r} was not shown: {self.shown!r}"
        self._seen = found + len(text)

    def ended(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(ENDED_WITHIN_S)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # nobody has the other end any more
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


def plain(shown: str) -> str:
    """What a terminal shows, without what steers it."""
    return ESCAPES.sub("", shown)


def lines(shown: str) -> list[str]:
    """The lines that stay on the screen: what a carriage return or an erased line took back is gone."""
    rows: list[str] = [""]
    row = 0
    for piece in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n)", shown):
        if piece in {"\r\n", "\n"}:
            row += 1
            if row == len(rows):
                rows.append("")
        elif piece == "\x1b[2K":
            rows[row] = ""
        elif (up := re.fullmatch(r"\x1b\[(\d*)A", piece)) is not None:
            row = max(0, row - int(up[1] or 1))
        elif not piece.startswith("\x1b") and piece not in {"", "\r"}:
            rows[row] += piece
    return [text.rstrip() for text in rows if text.strip()]
