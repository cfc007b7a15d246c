"""How a message ended at its bot, and the word to the messenger that says so."""

import re
from dataclasses import dataclass
from typing import Final, assert_never

from shared.contracts.messenger.commands import (
    LetExpire,
    MessageCommand,
    ReadMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import BotId
from shared.runtime.ids import derived_id

REASON_CHARS_MAX: Final = 2_000
_NO_CODE: Final = re.compile(r"[^A-Za-z0-9_.:-]+")


@dataclass(frozen=True, slots=True)
class Taken:
    """It is not the end: the bot has it, and sees to it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What it asks was done."""


@dataclass(frozen=True, slots=True)
class Left:
    """It lies in the inbox, for people: the bot itself does nothing with it."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The bot could not."""

    code: str
    reason: str
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time was over before it was begun."""


Ending = Read | Left | Returned | Expired


def word(bot_id: BotId, mail: Mail, said: Taken | Ending) -> MessageCommand:
    """The command that says it."""
    message_id, delivery = mail.message_id, mail.delivery
    match said:
        case Taken():
            return TakeMessage(message_id=message_id, bot_id=bot_id, delivery=delivery, kept=True)
        case Left():
            return TakeMessage(message_id=message_id, bot_id=bot_id, delivery=delivery)
        case Read():
            return ReadMessage(message_id=message_id, bot_id=bot_id, delivery=delivery)
        case Returned():
            return ReturnMessage(
                message_id=message_id,
                bot_id=bot_id,
                delivery=delivery,
                code=plain_code(said.code),
                reason=plain_reason(said.reason),
                retryable=said.retryable,
            )
        case Expired():
            return LetExpire(message_id=message_id, bot_id=bot_id, delivery=delivery)
        case _:
            assert_never(said)


def plain_code(code: str) -> str:
    """A function's own code, as the messenger takes it: letters, digits and `_.:-`, 100 of them at most."""
    return _NO_CODE.sub("_", code)[:100] or "failed"


def plain_reason(reason: str) -> str:
    """A function's own reason, as the messenger takes it."""
    return printable(reason)[:REASON_CHARS_MAX] or "no reason was given"


def printable(text: str) -> str:
    """The text without what no message may hold: U+0000, and halves of characters."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def word_id(bot_id: BotId, mail: Mail, said: Taken | Ending) -> str:
    """The same id whenever the same is said about the same delivery."""
    return derived_id(type(said).__name__, bot_id, mail.message_id, str(mail.delivery))
