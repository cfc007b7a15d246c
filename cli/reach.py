"""Whether another's broker answers at all, asked before a hive is started on it."""

import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from cli.failure import Exit, Failure
from shared.runtime import clock

NATS_PORT: Final = 4222
WITHIN_S: Final = 5.0
TRY_S: Final = 2.0
AGAIN_AFTER_S: Final = 0.25
GREETING: Final = b"INFO "


def until_there(nats_url: str, say: Callable[[str], None], within_s: float = WITHIN_S) -> None:
    """Return when one of the servers greets as a broker does; what is wrong is said at once."""
    places = [_place(each.strip()) for each in nats_url.split(",")]
    deadline = clock.monotonic() + within_s
    told = False
    while True:
        wrong = [why for place in places if (why := _why_not(*place, deadline)) is not None]
        if len(wrong) < len(places):
            return
        why = "; ".join(wrong)
        if clock.monotonic() + AGAIN_AFTER_S > deadline:
            raise Failure(
                f"No broker answers at {nats_url}.",
                exit_code=Exit.UNAVAILABLE,
                code="broker_away",
                why=f"{why}; it was tried for {within_s:g} s.",
                todo="start it, or correct the address after --nats; without --nats `hive up` starts one.",
            )
        if not told:
            say(f"{why}; trying for {within_s:g} s")
            told = True
        time.sleep(AGAIN_AFTER_S)


def _place(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname, parts.port or NATS_PORT
    except ValueError as error:
        raise _no_address(url, str(error)) from error
    if not host:
        raise _no_address(url, "it names no host.")
    return host, port


def _no_address(url: str, why: str) -> Failure:
    return Failure(
        f"{url} is not the address of a broker.",
        exit_code=Exit.USAGE,
        code="bad_url",
        why=why,
        todo="write it as nats://HOST:PORT; the servers of a cluster with commas between them.",
    )


def _why_not(host: str, port: int, deadline: float) -> str | None:
    """What keeps this server from being used; None if it greets."""
    patience = min(TRY_S, max(AGAIN_AFTER_S, deadline - clock.monotonic()))
    try:
        with socket.create_connection((host, port), patience) as connection:
            connection.settimeout(patience)
            heard = connection.recv(len(GREETING))
    except TimeoutError:
        return f"{host}:{port} does not answer"
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return None if heard and GREETING.startswith(heard) else f"{host}:{port} answers, but is no NATS server"
