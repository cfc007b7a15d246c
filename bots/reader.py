"""What a bot does with a message: an answer that is waited for, a handler's, a turn, or nothing."""

import asyncio
import logging

from bots.endings import Ending, Left, Read, Returned
from bots.talk import Failed, Message, OnMessage, Talk
from bots.turns import Turns
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import MessageKind

_log = logging.getLogger(__name__)


class BotReader:
    """Reads one bot's mail: all of it is for `on_message`, or else chat messages for the bot's engine."""

    def __init__(self, talk: Talk, turns: Turns | None, on_message: OnMessage | None) -> None:
        self._talk = talk
        self._turns = turns
        self._on_message = on_message

    def hears(self, mail: Mail) -> bool:
        """Whether a question waits for it."""
        return self._talk.hear(mail)

    def handles(self, mail: Mail) -> bool:
        """Whether it is for a handler or an engine."""
        return self._on_message is not None or (mail.kind is MessageKind.CHAT and self._turns is not None)

    async def handle(self, mail: Mail, group: asyncio.TaskGroup) -> Ending:
        """Call the handler, or let the engine answer."""
        if self._on_message is not None:
            return await _handled(self._on_message, Message(mail, self._talk))
        if self._turns is not None:
            return await self._turns.take(mail, group)
        return Left()


async def _handled(on_message: OnMessage, message: Message) -> Ending:
    try:
        await on_message(message)
    except Failed as failed:
        return Returned(failed.code, failed.detail, retryable=failed.retryable)
    except Exception as error:  # noqa: BLE001  a handler may fail in any way: that is the message's end
        _log.exception("the handler failed on the message %s", message.id)
        return Returned("handler_failed", f"{type(error).__name__}: {error}")
    return Read()
