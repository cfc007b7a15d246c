"""A bot's door to the messenger: its session, what it begins when, and what it says became of it."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from bots.endings import Ending, Expired, Left, Read, Returned, Taken, word, word_id
from bots.mail import Arrival, Lanes, torn
from bots.outbox import Outbox
from shared.contracts.messenger.protocol import Hello, HelloAnswer, Mail
from shared.contracts.naming import GREETING, LANES, inbox_subject, mail_subject
from shared.contracts.words import BotId, MessageId, Priority
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import now
from shared.runtime.connection import Connection
from shared.runtime.ids import jittered, short_token

TAKEN_AFTER_S: Final = 0.005
"""What is handled sooner is said to be read, and nothing else: one command for a message."""

ANSWERED_WITHIN_S: Final = 2.0
AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 5.0

_PRIORITY_OF: Final = dict(zip(LANES, Priority, strict=True))

_mails = msgspec.json.Decoder(Mail)
_answers = msgspec.json.Decoder(HelloAnswer)
_log = logging.getLogger(__name__)


class Reader(Protocol):
    """Who the mail is for."""

    def hears(self, mail: Mail) -> bool:
        """Whether it was waited for: then it has been read, whatever else is in hand."""
        ...

    def handles(self, mail: Mail) -> bool:
        """Whether anything is done with such a message; otherwise it lies in the inbox, for people."""
        ...

    async def handle(self, mail: Mail, group: asyncio.TaskGroup) -> Ending:
        """Do what it asks; cancelled when the process ends."""
        ...


class Mailbox:
    """Takes in one bot's mail and has it handled, in order, `places` at a time and one more for P0.

    `when_idle` is called when nothing is in hand, and all is said about what was.
    """

    def __init__(
        self,
        connection: Connection,
        bot_id: BotId,
        outbox: Outbox,
        reader: Reader,
        *,
        places: int,
        when_idle: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._bot_id = bot_id
        self._outbox = outbox
        self._reader = reader
        self._when_idle = when_idle
        self._lanes = Lanes(places)
        self._saying: Counter[MessageId] = Counter()
        self._awaited: dict[MessageId, asyncio.TimerHandle] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._greet = asyncio.Event()
        self._begins = True
        self._tells = True
        self._group: asyncio.TaskGroup

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand, and all is said about what was."""
        return not self._lanes.in_hand and not self._saying

    async def open(self, group: asyncio.TaskGroup) -> None:
        """Listen; what is done about mail is done in tasks of the group."""
        self._group = group
        await self._connection.subscribe(inbox_subject(self._bot_id, "*"), self._on_inbox)
        self._connection.on_reconnect(self._on_reconnect)

    async def run(self) -> None:
        """Have a session begun now, and whenever there is a reason for another one."""
        while True:
            await self._begin_session()
            await asyncio.sleep(jittered(AGAIN_FIRST_S))  # no haste, whatever the reason for another one
            await self._greet.wait()
            await asyncio.sleep(jittered(AGAIN_FIRST_S))  # not all at once, when all have the same reason

    def close(self) -> None:
        """Begin nothing new: what waits was not taken, and comes to the next process."""
        self._begins = False

    def stop(self) -> None:
        """Stop what is in hand: it comes again to the next process."""
        self.close()
        for giving_up in self._awaited.values():
            giving_up.cancel()
        for task in list(self._working):
            task.cancel()

    def give_up(self) -> None:
        """Say nothing more: what was not said by now, the next process finds out."""
        self._tells = False
        for task in list(self._telling):
            task.cancel()

    async def _begin_session(self) -> None:
        pause_s = AGAIN_FIRST_S
        while True:
            self._greet.clear()
            if await self._said_hello():
                return
            try:
                async with asyncio.timeout(jittered(pause_s)):
                    await self._greet.wait()
            except TimeoutError:
                pause_s = min(AGAIN_MAX_S, pause_s * 2)
            else:
                pause_s = AGAIN_FIRST_S

    async def _said_hello(self) -> bool:
        session = short_token(9)
        self._lanes.begin_session(session)
        hello = Hello(bot_id=self._bot_id, session=session, holding=self._holding())
        try:
            answer = await self._connection.request(
                mail_subject(self._bot_id), encode(hello), timeout=ANSWERED_WITHIN_S
            )
            return _answers.decode(answer.data).session == session
        except Unavailable as error:
            _log.debug("no session yet: %s", error)
        except msgspec.DecodeError:
            _log.exception("the answer to a Hello cannot be read")
        return False

    def _holding(self) -> tuple[MessageId, ...]:
        return tuple(dict.fromkeys((*self._lanes.held, *self._saying)))

    async def _on_reconnect(self) -> None:
        self._greet.set()

    async def _on_inbox(self, message: Msg) -> None:
        if not self._tells:
            return
        if message.subject.endswith(f".{GREETING}"):
            self._greet.set()
            return
        try:
            mail = _mails.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._give_back(message, str(error))
            return
        match self._lanes.arrive(mail):
            case Arrival.NEW if self._reader.hears(mail):
                self._say(mail, Read())
            case Arrival.NEW:
                if (giving_up := self._awaited.pop(mail.message_id, None)) is not None:
                    giving_up.cancel()
                self._lanes.add(mail)
                self._look()
            case Arrival.AMISS:
                self._lanes.begin_session("")
                self._greet.set()
            case Arrival.KNOWN | Arrival.FOREIGN:
                pass

    def _give_back(self, message: Msg, flaw: str) -> None:
        """A mail that we cannot read has been delivered all the same: it has its index, and fails."""
        priority = _PRIORITY_OF[message.subject.rpartition(".")[2]]
        _log.warning("a mail of %s cannot be read: %s", priority, flaw)
        mail = torn(message.data, priority)
        if mail is None:
            self._lanes.skip(priority)
        elif self._lanes.arrive(mail) is Arrival.NEW:
            self._say(mail, Returned("unreadable", flaw, retryable=False))

    def _look(self) -> None:
        while self._begins and (mail := self._lanes.next()) is not None:
            if mail.expires_at <= now():
                self._end(mail, Expired())
            elif self._lanes.was_handled(mail):
                self._end(mail, Read())
            elif not self._reader.handles(mail):
                self._end(mail, Left())
            else:
                task = self._group.create_task(self._handle(mail), name=mail.message_id)
                self._working.add(task)
                task.add_done_callback(self._working.discard)

    async def _handle(self, mail: Mail) -> None:
        taking = asyncio.get_running_loop().call_later(TAKEN_AFTER_S, self._say, mail, Taken())
        try:
            ending = await self._reader.handle(mail, self._group)
        except asyncio.CancelledError:
            self._lanes.end(mail, handled=False)
            raise
        finally:
            taking.cancel()
        self._end(mail, ending)
        self._look()

    def _end(self, mail: Mail, ending: Ending) -> None:
        self._say(mail, ending)
        comes_again = mail.again and isinstance(ending, Returned) and ending.retryable
        self._lanes.end(mail, handled=isinstance(ending, Read), comes_again=comes_again)
        if comes_again:
            left_s = max(0.0, (mail.expires_at - now()).total_seconds())
            self._awaited[mail.message_id] = asyncio.get_running_loop().call_later(
                left_s, self._give_up, mail
            )

    def _give_up(self, mail: Mail) -> None:
        self._awaited.pop(mail.message_id, None)
        self._lanes.give_up(mail)
        self._look()

    def _say(self, mail: Mail, said: Taken | Ending) -> None:
        if not self._tells:
            return
        self._saying[mail.message_id] += 1
        task = self._group.create_task(self._have_said(mail, said))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _have_said(self, mail: Mail, said: Taken | Ending) -> None:
        message_id = mail.message_id
        try:
            with contextlib.suppress(Unavailable):  # the outbox was closed: it comes again
                await self._outbox.store(
                    word(self._bot_id, mail, said),
                    command_id=word_id(self._bot_id, mail, said),
                    chain=mail.chain,
                    lane=message_id,
                )
        finally:
            self._saying[message_id] -= 1
            if not self._saying[message_id]:
                del self._saying[message_id]
            if self.is_idle:
                self._when_idle()
