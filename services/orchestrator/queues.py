"""Which bots' queues are known to be there. A restart of the broker takes them: they lie in its memory."""

from collections.abc import Iterable

from shared.contracts.words import BotId


class Queues:
    """What was made since the broker was last away, or another process was in charge."""

    def __init__(self) -> None:
        self._made: set[BotId] = set()

    def restart(self) -> None:
        """Nothing is known any more."""
        self._made.clear()

    def made(self, bot_id: BotId) -> None:
        """This one is there."""
        self._made.add(bot_id)

    def forget(self, bot_id: BotId) -> None:
        """The bot is gone, and its queue with it."""
        self._made.discard(bot_id)

    def missing(self, bots: Iterable[BotId]) -> list[BotId]:
        """Those of the bots whose queue may be gone. Making it again changes nothing."""
        return [bot_id for bot_id in bots if bot_id not in self._made]
