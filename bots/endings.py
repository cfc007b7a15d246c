"""How a message ended at its bot, and the word to the messenger that says so."""

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

REASON_CHARS_MAX: Final = 1_000


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
                code=said.code,
                reason=said.reason[:REASON_CHARS_MAX],
                retryable=said.retryable,
            )
        case Expired():
            return LetExpire(message_id=message_id, bot_id=bot_id, delivery=delivery)
        case _:
            assert_never(said)


def word_id(bot_id: BotId, mail: Mail, said: Taken | Ending) -> str:
    """The same id whenever the same is said about the same delivery."""
    return derived_id(type(said).__name__, bot_id, mail.message_id, str(mail.delivery))
