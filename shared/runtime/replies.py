"""Answers to many requests over one inbox subscription: no task and no subscription for each of them."""

from collections.abc import Callable
from itertools import count

from nats.aio.client import Client  # noqa: TID251
from nats.aio.msg import Msg  # noqa: TID251


class Replies:
    """Hands each answer to who waits for it; late answers to nobody are dropped."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._prefix = ""
        self._count = count()
        self._waiting: dict[str, Callable[[Msg], None]] = {}
        self._losers: dict[str, Callable[[], None]] = {}

    async def start(self) -> None:
        """Begin to listen."""
        self._prefix = f"{self._nc.new_inbox()}."
        await self._nc.subscribe(f"{self._prefix}*", cb=self._on_message)

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

    async def _on_message(self, message: Msg) -> None:
        hear = self._waiting.get(message.subject)
        if hear is not None:
            hear(message)
