"""Answers to many requests over one inbox subscription: no task and no subscription for each of them."""

from collections.abc import Callable
from itertools import count

from nats.aio.msg import Msg  # noqa: TID251

from shared.runtime.straight import StraightClient


class Replies:
    """Hands each answer to who waits for it; late answers to nobody are dropped."""

    def __init__(self, nc: StraightClient) -> None:
        self._nc = nc
        self._prefix = ""
        self._count = count()
        self._waiting: dict[str, Callable[[Msg], None]] = {}
        self._losers: dict[str, Callable[[], None]] = {}

    async def start(self) -> None:
        """Begin to listen."""
        self._prefix = f"{self._nc.new_inbox()}."
        await self._nc.hear(f"{self._prefix}*", self._on_message, headers=True)

    def expect(self, hear: Callable[[Msg], None], lose: Callable[[], None] | None = None) -> str:
        """A fresh reply subject; what comes there goes to `hear` until it is forgotten.

        `lose` is called when the connection breaks: what was asked before is never answered.
        """
        reply = f"{self._prefix}{next(self._count)}"
        self._waiting[reply] = hear
        if lose is not None:
            self._losers[reply] = lose
        return reply

    def lose(self) -> None:
        """The connection broke."""
        for lose in list(self._losers.values()):
            lose()

    def forget(self, reply: str) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(reply, None)
        self._losers.pop(reply, None)

    def _on_message(self, message: Msg) -> None:
        hear = self._waiting.get(message.subject)
        if hear is not None:
            hear(message)
