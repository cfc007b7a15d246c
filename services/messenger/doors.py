"""What bots say to the messenger directly, over the broker: Hello."""

import logging
from typing import Protocol

import msgspec

from services.messenger.service import Messenger
from shared.contracts.messenger.protocol import Hello
from shared.contracts.words import is_name

_hellos = msgspec.json.Decoder(Hello)
_log = logging.getLogger(__name__)


class Message(Protocol):
    """What came over the broker."""

    subject: str
    reply: str
    data: bytes


class Doors:
    """Reads what came."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger

    async def on_hello(self, message: Message) -> None:
        """On `mail.<bot>`: the broker lets nobody use another's subject."""
        try:
            hello = _hellos.decode(message.data)
        except msgspec.DecodeError as error:
            _log.warning("a hello on %s cannot be read: %s", message.subject, error)
            return
        if not is_name(hello.session):
            _log.warning("a hello on %s names no session: 1 to 50 of A-Z a-z 0-9 _ -", message.subject)
        elif hello.bot_id != message.subject.split(".")[1]:
            _log.warning("%s on %s speaks for another bot", hello.bot_id, message.subject)
        elif message.reply:
            self._messenger.hear(hello, message.reply)
