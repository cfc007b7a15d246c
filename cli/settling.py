"""An answer of 202 says that something is stored, and where to ask for what became of it."""

import time
from typing import Final

import httpx

from cli.client import Client
from cli.failure import Exit, Failure
from cli.patience import AGAIN_AFTER_S, patiently
from shared.runtime import clock

ACCEPTED: Final = 202
DECIDED_WITHIN_S: Final = 30.0


def settled(client: Client, answer: httpx.Response, what: str, show: str) -> httpx.Response:
    """The answer once its owner has decided. `what` it is about, and the command that shows it later."""
    deadline = clock.monotonic() + DECIDED_WITHIN_S
    place = answer.headers.get("Location", "")
    while answer.status_code == ACCEPTED:
        if clock.monotonic() > deadline or not place:
            raise Failure(
                f"The {what} is stored, but not decided yet.",
                exit_code=Exit.STILL_RUNNING,
                code="undecided",
                why=f"its owner did not answer within {DECIDED_WITHIN_S:.0f} s; it will when it is back.",
                todo=f"`{show} {place.rpartition('/')[2]}` in a moment; `hive status`.",
            )
        time.sleep(AGAIN_AFTER_S)
        answer = patiently(lambda: client.get(place), deadline - clock.monotonic())
    return answer
