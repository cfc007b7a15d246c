"""What is to be done next, as values. The shell performs them; performed twice, they do no harm."""

from typing import assert_never

import msgspec

from services.messenger.commands import ExpireMessage, LoseDelivery
from shared.contracts.words import BotId, MessageId
from shared.kernel.codec import tag_of
from shared.kernel.messages import Cause


class Decide(msgspec.Struct, frozen=True):
    """Decide one of our own commands. `about` is the version it is about: the same again is decided once."""

    command: LoseDelivery | ExpireMessage
    cause: Cause
    about: int


class Spread(msgspec.Struct, frozen=True):
    """Send the messages of a broadcast that do not exist yet."""

    broadcast_id: str


class Greet(msgspec.Struct, frozen=True):
    """Ask a bot to say Hello."""

    bot_id: BotId


class Fetch(msgspec.Struct, frozen=True):
    """Read the words of a message whose turn it is."""

    message_id: MessageId


class Recall(msgspec.Struct, frozen=True):
    """Read the past of a message that was put back and is not in memory."""

    message_id: MessageId


Step = Decide | Spread | Greet | Fetch | Recall


def key_of(step: Step) -> tuple[str, ...]:
    """What makes two steps the same: while one is under way, the other is not begun."""
    match step:
        case Decide():
            return (tag_of(type(step.command)), step.command.message_id, str(step.about))
        case Spread():
            return ("spread", step.broadcast_id)
        case Greet():
            return ("greet", step.bot_id)
        case Fetch():
            return ("fetch", step.message_id)
        case Recall():
            return ("recall", step.message_id)
        case _:
            assert_never(step)
