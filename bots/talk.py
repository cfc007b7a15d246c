"""What a bot says to others and hears from them: messages, answers, and questions that wait for theirs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, assert_never

import msgspec

from bots.outbox import Outbox
from shared.contracts.messenger.commands import PostMessage
from shared.contracts.messenger.facts import MessageError
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import (
    MESSAGE_CHARS_MAX,
    MESSAGE_TTL_DEFAULT,
    MESSAGE_TTL_MIN,
    BotId,
    MessageId,
    MessageKind,
    Party,
    Priority,
)
from shared.kernel import messages
from shared.kernel.messages import AlreadySo, Committed, Outcome, Refused
from shared.runtime.ids import derived_id, new_id

ASK_WITHIN_S: Final = 60.0
ID_TAKEN: Final = "message_exists"
"""By somebody else: whoever knows a message's id can tell its answer's, and use it first."""


class Failed(Exception):
    """Raised by a bot's function: it could not. `retryable` False: another try would end alike."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable


class NotSent(Exception):
    """The messenger said no: `recipient_unknown`, `inbox_full` and so on; or the message is too long."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class NoAnswer(TimeoutError):
    """Nobody answered a question in time. The message itself was sent, or may still be."""


class _Question(NamedTuple):
    """One that waits for its answer."""

    whom: Party
    answer: asyncio.Future[Mail]


class Talk:
    """Speaks for one bot. What it sends to one recipient with one priority stays in order."""

    def __init__(self, bot_id: BotId, outbox: Outbox) -> None:
        self._bot_id = bot_id
        self._outbox = outbox
        self._asked: dict[MessageId, _Question] = {}

    async def send(
        self,
        to: str,
        content: str,
        *,
        priority: Priority = Priority.P2,
        ttl_s: float = MESSAGE_TTL_DEFAULT.total_seconds(),
        hold: bool = False,
        kind: MessageKind = MessageKind.NOTE,
    ) -> MessageId:
        """Send a message; its id when the messenger has accepted it. NotSent: it did not."""
        command = PostMessage(
            message_id=MessageId(new_id()),
            bot_id=self._bot_id,
            recipient=Party(to),
            content=content,
            priority=priority,
            kind=kind,
            ttl_s=ttl_s,
            hold=hold,
        )
        check_accepted(await self._post(command, chain=command.message_id))
        return command.message_id

    async def ask(
        self,
        to: str,
        content: str,
        *,
        within_s: float = ASK_WITHIN_S,
        priority: Priority = Priority.P2,
        kind: MessageKind = MessageKind.CHAT,
    ) -> "Message":
        """Send a message and wait for the answer. NotSent, or NoAnswer when there is none in time."""
        question = PostMessage(
            message_id=MessageId(new_id()),
            bot_id=self._bot_id,
            recipient=Party(to),
            content=content,
            priority=priority,
            kind=kind,
            ttl_s=max(MESSAGE_TTL_MIN.total_seconds(), within_s),
        )
        answer: asyncio.Future[Mail] = asyncio.get_running_loop().create_future()
        self._asked[question.message_id] = _Question(question.recipient, answer)
        limit = asyncio.timeout(within_s)
        try:
            async with limit:
                check_accepted(await self._post(question, chain=question.message_id))
                return Message(await answer, self)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise NoAnswer(f"{to} did not answer within {within_s:g} s") from error
        finally:
            del self._asked[question.message_id]

    def hear(self, mail: Mail) -> bool:
        """Whether it is the answer that a question waits for, from who was asked: then it is told."""
        asked = self._asked.get(mail.in_reply_to) if mail.in_reply_to is not None else None
        if asked is None or asked.whom != mail.sender or asked.answer.done():
            return False
        asked.answer.set_result(mail)
        return True

    async def answer(
        self, mail: Mail, content: str, *, number: int = 0, error: MessageError | None = None
    ) -> MessageId:
        """Answer a message, once, however often it is handled; the answer's id. NotSent: it is refused."""
        words = (mail.message_id,) if number == 0 else (mail.message_id, str(number))
        command = PostMessage(
            message_id=MessageId(derived_id("reply", *words)),
            bot_id=self._bot_id,
            recipient=mail.sender,
            content=content,
            priority=mail.priority,
            in_reply_to=mail.message_id,
            error=error,
        )
        outcome = await self._post(command, mail.chain)
        if isinstance(outcome, Refused) and outcome.code == ID_TAKEN:
            command = msgspec.structs.replace(command, message_id=MessageId(new_id()))
            outcome = await self._post(command, mail.chain)
        check_accepted(outcome)
        return command.message_id

    async def _post(self, command: PostMessage, chain: str) -> Outcome:
        check_length(command.content)
        command_id = derived_id("post", command.message_id)
        lane = f"{command.recipient} {command.priority}"
        return await self._outbox.send(command, command_id=command_id, chain=chain, lane=lane)


class Message:
    """A message to this bot."""

    def __init__(self, mail: Mail, talk: Talk) -> None:
        self._mail = mail
        self._talk = talk
        self._replies = 0

    @property
    def id(self) -> MessageId:
        """The message's id: the same, however often it is delivered."""
        return self._mail.message_id

    @property
    def sender(self) -> Party:
        """Who sent it: a bot by its name, a person by `@` and a name."""
        return self._mail.sender

    @property
    def content(self) -> str:
        """What it says."""
        return self._mail.content

    @property
    def priority(self) -> Priority:
        """How soon."""
        return self._mail.priority

    @property
    def kind(self) -> MessageKind:
        """A note, or a chat message, which wants an answer."""
        return self._mail.kind

    @property
    def sequence(self) -> int:
        """Its place in the order of all messages."""
        return self._mail.sequence

    @property
    def delivery(self) -> int:
        """The how manieth try to deliver it this is, from 1."""
        return self._mail.delivery

    @property
    def in_reply_to(self) -> MessageId | None:
        """The message that it answers."""
        return self._mail.in_reply_to

    @property
    def error(self) -> MessageError | None:
        """Why it is no answer, if it says that there is none."""
        return self._mail.error

    async def reply(self, content: str) -> MessageId:
        """Answer it, and its id; NotSent when that is refused. Handled again, it is not answered again."""
        number, self._replies = self._replies, self._replies + 1
        return await self._talk.answer(self._mail, content, number=number)


OnMessage = Callable[[Message], Awaitable[None]]
"""Handles one message; raising means that it could not. Cancelled, it ends."""


def check_length(content: str) -> None:
    """NotSent when no message may be as long as that."""
    if len(content) > MESSAGE_CHARS_MAX:
        raise NotSent(
            "message_too_long", f"{len(content)} characters; a message has {MESSAGE_CHARS_MAX} at most"
        )


def check_accepted(outcome: Outcome) -> None:
    """NotSent when the messenger did not accept it."""
    match outcome:
        case Committed() | AlreadySo():
            return
        case Refused():
            raise NotSent(outcome.code, outcome.detail)
        case messages.Failed():
            raise NotSent("dead_lettered", f"it lies in the dead letters: {outcome.detail}")
        case _:
            assert_never(outcome)
