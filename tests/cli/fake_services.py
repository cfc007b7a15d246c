"""Services that do nothing but what a supervisor sees of one: they get ready, and they end."""

import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def ready() -> None:
    """Ready at once; ends well on SIGTERM, and notes when."""
    server = _probes(200)
    signal.signal(signal.SIGTERM, lambda _number, _frame: _leave())
    server.serve_forever()


def never_ready() -> None:
    """Says why it is not ready."""
    _probes(503).serve_forever()


def deaf() -> None:
    """Ready, and does not hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _probes(200).serve_forever()


def answers_http() -> None:
    """Answers one connection after another on the inherited socket with its process id."""
    threading.Thread(target=_answer, args=(int(os.environ["HIVE_HTTP_FD"]),), daemon=True).start()
    ready()


def _answer(descriptor: int) -> None:
    listening = socket.socket(fileno=descriptor)
    while True:
        connection, _ = listening.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()


def ends_at_once() -> int:
    """Cannot even begin, and says why."""
    print("a setting is missing", flush=True)
    return 7


def _leave() -> None:
    with (Path(os.environ["HIVE_DATA"]) / "left").open("a") as order:
        order.write(f"{os.environ['HIVE_SENDER']}\n")
    os._exit(0)


def _probes(status: int) -> HTTPServer:
    class Probes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ready":false,"problems":["views are catching up"]}' if status != 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return HTTPServer(("127.0.0.1", int(os.environ["HIVE_PROBE_PORT"])), Probes)
