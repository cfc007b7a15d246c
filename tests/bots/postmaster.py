"""A stand-in for the messenger, at the seam: it begins sessions, sends mail, and hears what bots say."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import msgspec
from nats.aio.msg import Msg

from shared.contracts import naming
from shared.contracts.messenger.commands import (
    LetExpire,
    PostMessage,
    ReadMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.protocol import Hello, HelloAnswer, Mail
from shared.contracts.words import LANE_WINDOW, Party, Priority
from shared.kernel.codec import Codec, encode
from shared.kernel.messages import Committed, Envelope, Outcome, Refused
from shared.runtime.clock import now
from shared.runtime.connection import Connection, connect
from shared.runtime.parcels import items_of
from shared.runtime.pull import PullConsumer
from tests.bots.mails import mail
from tests.support.nats_server import LocalBroker

Word = TakeMessage | ReadMessage | ReturnMessage | LetExpire
COMMANDS = Codec[Word | PostMessage](Word | PostMessage)


class Postmaster:
    """Hears one hive's bots. `answering` off: a Hello comes in vain. `lose`: mails that do not arrive.

    `refused`: why there is none for a recipient; `taken`: ids of messages that others used; `spoilt`: what
    the mail of a message says otherwise than any bot can read.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.answering = True
        self.lose = 0
        self.returns_at_once = True
        self.refused: dict[str, str] = {}
        self.taken: set[str] = set()
        self.spoilt: dict[str, dict[str, Any]] = {}
        self.hellos: list[Hello] = []
        self.words: list[Word] = []
        self.posts: list[PostMessage] = []
        self.pending: defaultdict[str, list[Mail]] = defaultdict(list)
        self._sessions: dict[str, str] = {}
        self._indexes: defaultdict[tuple[str, Priority], int] = defaultdict(int)
        self._sequences = count(1)
        self._news = asyncio.Event()
        self._broken = ""

    async def hear_hello(self, message: Msg) -> None:
        hello = msgspec.json.decode(message.data, type=Hello)
        self.hellos.append(hello)
        self._news.set()
        if not self.answering:
            return
        self._sessions[hello.bot_id] = hello.session
        for priority in Priority:
            self._indexes[hello.bot_id, priority] = 0
        await message.respond(encode(HelloAnswer(session=hello.session, lane_window=LANE_WINDOW)))
        for waiting in self.pending[hello.bot_id]:
            if waiting.message_id not in hello.holding:
                await self._push(hello.bot_id, waiting)

    async def greet(self, bot: str) -> None:
        await self.connection.publish(naming.inbox_subject(bot, naming.GREETING), b"")

    async def send(
        self, content: str = "hello", *, to: str = "alpha", sender: str = "@kai", **more: Any
    ) -> Mail:
        """One message, from whoever."""
        sequence = next(self._sequences)
        sent = mail(sender, **{"content": content, "sequence": sequence, **more})
        self.pending[to].append(sent)
        await self._push(to, sent)
        return sent

    async def hear_commands(self) -> None:
        pull = PullConsumer(
            self.connection,
            naming.command_stream("messenger"),
            naming.command_consumer("messenger", naming.BLUE),
        )
        async for batch in pull.batches():
            for delivery in batch:
                sender = naming.parse_stored_command(delivery.subject).sender
                items, is_parcel = items_of(sender, delivery.subject, delivery.headers, delivery.data)
                outcomes = [await self._decide(item.body) for item in items]
                if reply := delivery.headers.get(naming.REPLY_HEADER):
                    await self.connection.publish(reply, encode(outcomes if is_parcel else outcomes[0]))
                await delivery.ack()
                self._news.set()

    async def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until what was heard makes it true."""
        async with asyncio.timeout(within_s):
            while not true():
                assert not self._broken, self._broken
                self._news.clear()
                await self._news.wait()

    def on_end(self, hearing: asyncio.Future[None]) -> None:
        """Whoever waits for more is told that nothing is heard any more."""
        if not hearing.cancelled() and (error := hearing.exception()) is not None:
            self._broken = repr(error)
            self._news.set()

    def said(self, message: Mail) -> list[Word]:
        """What the bot said about a message."""
        return [word for word in self.words if word.message_id == message.message_id]

    async def heard(self, message: Mail, kind: type[Word]) -> Word:
        """The word of this kind about a message, when it comes."""
        await self.until(lambda: any(isinstance(word, kind) for word in self.said(message)))
        return next(word for word in self.said(message) if isinstance(word, kind))

    async def answer_to(self, message: Mail) -> PostMessage:
        await self.until(lambda: any(post.in_reply_to == message.message_id for post in self.posts))
        return next(post for post in self.posts if post.in_reply_to == message.message_id)

    async def _push(self, bot: str, sent: Mail) -> None:
        if (session := self._sessions.get(bot)) is None:
            return
        index = self._indexes[bot, sent.priority]
        self._indexes[bot, sent.priority] += 1
        if self.lose:
            self.lose -= 1
            return
        pushed = encode(msgspec.structs.replace(sent, session=session, index=index))
        if (spoilt := self.spoilt.get(sent.message_id)) is not None:
            pushed = encode({**msgspec.json.decode(pushed, type=dict[str, Any]), **spoilt})
        await self.connection.publish(naming.inbox_subject(bot, sent.priority.lower()), pushed)

    async def _decide(self, body: bytes) -> Outcome:
        envelope = msgspec.json.decode(body, type=Envelope)
        command = COMMANDS.decode(envelope.command)
        match command:
            case PostMessage():
                if command.message_id in self.taken:
                    return Refused(command_id=envelope.id, code="message_exists", detail="used by another")
                if (code := self.refused.get(command.recipient)) is not None:
                    return Refused(command_id=envelope.id, code=code, detail=f"no: {command.recipient}")
                if all(post.message_id != command.message_id for post in self.posts):
                    self.posts.append(command)
                    await self._forward(command, envelope.chain)
            case TakeMessage() | ReadMessage() | ReturnMessage() | LetExpire():
                self.words.append(command)
                await self._settle(command)
        return Committed(command_id=envelope.id, sequence=next(self._sequences))

    async def _forward(self, post: PostMessage, chain: str) -> None:
        await self.send(
            post.content,
            to=post.recipient,
            sender=Party(post.bot_id),
            message_id=post.message_id,
            priority=post.priority,
            kind=post.kind,
            expires_at=now() + timedelta(seconds=post.ttl_s),
            in_reply_to=post.in_reply_to,
            error=post.error,
            chain=chain,
        )

    async def _settle(self, word: Word) -> None:
        if isinstance(word, TakeMessage) and word.kept:
            return
        waiting = self.pending[word.bot_id]
        settled = [each for each in waiting if each.message_id == word.message_id]
        self.pending[word.bot_id] = [each for each in waiting if each.message_id != word.message_id]
        if isinstance(word, ReturnMessage) and word.retryable and self.returns_at_once:
            for each in settled:
                again = msgspec.structs.replace(each, delivery=each.delivery + 1)
                self.pending[word.bot_id].append(again)
                await self._push(word.bot_id, again)


@asynccontextmanager
async def messenger(broker: LocalBroker) -> AsyncIterator[Postmaster]:
    """A stand-in that listens; the topology is there already."""
    connection = await connect(broker.settings("svc-messenger"))
    postmaster = Postmaster(connection)
    await connection.subscribe(naming.mail_subject("*"), postmaster.hear_hello)
    hearing = asyncio.ensure_future(postmaster.hear_commands())
    hearing.add_done_callback(postmaster.on_end)
    try:
        yield postmaster
    finally:
        hearing.cancel()
        await connection.close(drain=False)
