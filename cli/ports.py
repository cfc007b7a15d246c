"""The addresses a hive listens on: the usual ones, or free ones when those are taken."""

import socket
from typing import Final

from cli.failure import Exit, Failure

LOOPBACK: Final = "127.0.0.1"
HTTP_PORT: Final = 8470
BROKER_PORT: Final = 4222
BACKLOG: Final = 1024  # connections that wait while a killed gateway comes back


def listen(port: int | None, host: str = LOOPBACK) -> socket.socket:
    """A listening socket on `port`; without one, on the usual port, or on a free one when that is taken."""
    try:
        return _listening(host, HTTP_PORT if port is None else port)
    except OSError as error:
        if port is not None:
            raise Failure(
                f"Port {port} cannot be used.",
                exit_code=Exit.REFUSED,
                code="port_taken",
                why=error.strerror or str(error),
                todo="leave --port out and a free one is chosen, or name another.",
            ) from error
    return _listening(host, 0)


def reserve(port: int = 0, host: str = LOOPBACK) -> socket.socket:
    """Hold a port for a process of ours that listens on it and may be started again; OSError if it is taken.

    A socket that is bound and never listens lets our processes, which bind with SO_REUSEADDR, listen there.
    Another hive, which asks without it, is told that the port is taken, even while nobody listens.
    """
    if port:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as alone:
            alone.bind((host, port))
    return _bound(host, port)


def reserve_broker_port() -> socket.socket:
    """The usual port of a broker, or a free one when that is taken."""
    try:
        return reserve(BROKER_PORT)
    except OSError:
        return reserve()


def port_of(listening: socket.socket) -> int:
    """The port a socket is bound to."""
    port: int = listening.getsockname()[1]
    return port


def _listening(host: str, port: int) -> socket.socket:
    listening = _bound(host, port)
    try:
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port whose last connections are still in TIME_WAIT is free; one that is listened on is not.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
