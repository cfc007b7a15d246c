"""The WebSocket of a bot: what a person and the bot say to each other, as it is said."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NoReturn, assert_never

import msgspec

from services.messenger.api.frames import Accepted, Ack, ClientFrame, Hello, Read, Said, Say, Sequence
from services.messenger.api.messages import READ, WRITE
from services.messenger.api.parties import bot_named, me
from services.messenger.api.turns import AWAITED, TURNS_MAX, Turns
from shared.contracts.messenger.commands import MarkRead, SendMessage
from shared.contracts.messenger.queries import AwaitConversation, GetMessage, ListMessages, MessageDoc
from shared.contracts.orchestrator.queries import GetBot
from shared.contracts.words import BotId, MessageId, MessageKind, Page, Party
from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import AlreadySo, Committed, Outcome
from shared.kernel.wishes import wish_hash
from shared.runtime.answers import settled
from shared.runtime.clock import monotonic
from shared.runtime.commands import Sending
from shared.runtime.doors import Doors
from shared.runtime.ids import derived_id, jittered
from shared.runtime.parameters import Parameters
from shared.runtime.problems import Refusal, refusal_of
from shared.runtime.sockets import SocketRoute
from shared.runtime.websocket import Socket, Wrong

WAIT_AT_ONCE_S: Final = 25.0
WAIT_WHILE_ACTIVE_S: Final = 3.0
"""A messenger that dies leaves a question unanswered: so long a conversation may then stand still."""
ACTIVE_FOR_S: Final = 120.0  # after the last that was said
TOLD_WITHIN_S: Final = 1.0  # what was accepted; else the question is asked again
SETTLED_WITHIN_S: Final = 25.0
"""What is stored and not decided yet is asked about again, so long at a time, until it is."""
UNDECIDED_MAX: Final = 200  # of one connection; of older ones the client hears if it says them again
ANSWER_S: Final = 2.0
AGAIN_AFTER_S: Final = 1.0
PAGE_MESSAGES: Final = 20  # messages of the greatest length fit into one answer of the broker's
UNREAD_PAGES_MAX: Final = 50  # of 200 each, for one `ack`


class After(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sequence after which the conversation is to go on."""

    after: Sequence = 0


AFTER: Final = Parameters(After)
FRAMES: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)


async def chat(socket: Socket, doors: Doors, path: Mapping[str, str]) -> None:
    """Until one side ends it."""
    bot = bot_named(path["name"])
    after = AFTER.of(socket.scope).after
    with suppress(Behind, Unavailable):  # who talks to the messenger need not wait for the owner of the bots
        await doors.ask(GetBot(bot_id=bot), timeout_s=ANSWER_S)
    await socket.accept()
    await _Chat(socket, doors, bot, after).run()


class _Chat:
    """One connection's conversation. `_seen` is the sequence of the last message that went out."""

    def __init__(self, socket: Socket, doors: Doors, bot: BotId, after: int) -> None:
        self._socket = socket
        self._doors = doors
        self._bot = bot
        self._me = me(socket.principal)
        self._seen = after
        self._active_until = 0.0
        self._asking: asyncio.Timeout | None = None
        self._undecided: dict[MessageId, tuple[str, SendMessage]] = {}
        self._stored = asyncio.Event()

    async def run(self) -> None:
        """Say what was said, and hear what the client says."""
        self._go_on_after(self._seen)
        await self._socket.send(Hello(bot=self._bot, party=self._me, after=self._seen))
        async with asyncio.TaskGroup() as tasks:
            turns = Turns(self._socket, self._doors, tasks)
            tasks.create_task(self._tell(turns))
            tasks.create_task(self._settle())
            while True:
                frame: Say | Ack = await self._socket.read(FRAMES)
                await self._obey(frame)

    async def _tell(self, turns: Turns) -> NoReturn:
        if self._seen:
            with suppress(Behind, Unavailable):  # what is shown live is in the answers, too
                await self._take_up(turns)
        while True:
            try:
                page = await self._news()
                for message in page.items:
                    await self._socket.send(Said(sequence=message.sequence, message=message))
                    self._go_on_after(message.sequence)
                    turns.note(message, self._me)
                if page.items:
                    self._active_until = monotonic() + ACTIVE_FOR_S
                else:
                    await turns.look_after()
            except (Behind, Unavailable):
                await asyncio.sleep(jittered(AGAIN_AFTER_S))

    async def _take_up(self, turns: Turns) -> None:
        """Show what is answered just now, though its question was told on another connection."""
        for state in AWAITED:
            query = ListMessages(sender=self._me, recipient=Party(self._bot), state=state, limit=TURNS_MAX)
            for message in reversed((await self._doors.ask(query)).items):
                if message.sequence <= self._seen:
                    turns.note(message, self._me)

    async def _news(self) -> Page[MessageDoc]:
        wait_s = WAIT_WHILE_ACTIVE_S if monotonic() < self._active_until else WAIT_AT_ONCE_S
        query = AwaitConversation(
            one=self._me, other=Party(self._bot), after=self._seen, wait_s=wait_s, limit=PAGE_MESSAGES
        )
        try:
            async with asyncio.timeout(None) as self._asking:
                return await self._doors.ask(query, timeout_s=wait_s + ANSWER_S)
        except TimeoutError:
            return Page(items=[])
        finally:
            self._asking = None

    def _ask_again_unless_told(self, sequence: int) -> None:
        if self._asking is not None and self._seen < sequence:
            asking, self._asking = self._asking, None
            asking.reschedule(asyncio.get_running_loop().time())

    def _go_on_after(self, sequence: int) -> None:
        self._seen = sequence
        self._socket.resume = f"?after={sequence}"

    async def _obey(self, frame: Say | Ack) -> None:
        try:
            self._check_may_write()
            match frame:
                case Say():
                    await self._say(frame)
                case Ack():
                    await self._ack(frame)
                case _:
                    assert_never(frame)
        except (Behind, NotFound, Rejected, Refusal, Unavailable) as error:
            await self._socket.send(_wrong(error, frame.ref if isinstance(frame, Say) else None))

    def _check_may_write(self) -> None:
        if not self._socket.principal.may(WRITE):
            raise Refusal(403, "scope_missing", f"This needs the scope {WRITE}; the key has it not.")

    async def _say(self, frame: Say) -> None:
        caller = self._socket.principal
        message_id = MessageId(derived_id("chat", caller.key_id, self._bot, frame.ref))
        command = SendMessage(
            message_id=message_id,
            sender=self._me,
            recipient=Party(self._bot),
            content=frame.content,
            body_hash=wish_hash(frame),
            priority=frame.priority,
            kind=MessageKind.CHAT,
        )
        outcome = await self._doors.send(
            command, actor=caller.actor, wait_s=self._doors.config().answer_wait_s
        )
        self._active_until = monotonic() + ACTIVE_FOR_S
        if outcome is None:
            await self._socket.send(Accepted(ref=frame.ref, id=message_id))
            self._undecided[message_id] = (frame.ref, command)
            if len(self._undecided) > UNDECIDED_MAX:
                del self._undecided[next(iter(self._undecided))]
            self._stored.set()
        else:
            await self._accepted(frame.ref, message_id, outcome)

    async def _accepted(self, ref: str, message_id: MessageId, outcome: Outcome) -> None:
        sequence = settled(outcome)
        if isinstance(outcome, AlreadySo):  # then it is that of what became of it since
            sequence = (await self._doors.ask(GetMessage(message_id=message_id))).sequence
        await self._socket.send(Accepted(ref=ref, id=message_id, sequence=sequence))
        asyncio.get_running_loop().call_later(TOLD_WITHIN_S, self._ask_again_unless_told, sequence)

    async def _settle(self) -> NoReturn:
        """Say what became of what was only stored: it may be refused, and nobody else would tell."""
        while True:
            await self._stored.wait()
            if not self._undecided:
                self._stored.clear()
                continue
            await asyncio.sleep(jittered(AGAIN_AFTER_S))
            message_id, (ref, command) = next(iter(self._undecided.items()))
            actor = self._socket.principal.actor
            try:
                outcome = await self._doors.send(command, actor=actor, wait_s=SETTLED_WITHIN_S)
                if outcome is not None:
                    await self._accepted(ref, message_id, outcome)
                    self._undecided.pop(message_id, None)
            except (Behind, Unavailable):
                continue
            except (NotFound, Rejected, Refusal) as error:
                self._undecided.pop(message_id, None)
                await self._socket.send(_wrong(error, ref))

    async def _ack(self, frame: Ack) -> None:
        """Mark as read what the bot said up to there; nothing that was not sent here can have been read."""
        until = min(frame.sequence, self._seen)
        unread = [message for message in await self._unread() if message.sequence <= until]
        caller = self._socket.principal
        sendings = [
            Sending(command=MarkRead(message_id=message.id, reader=self._me), actor=caller.actor)
            for message in unread
        ]
        wait_s = self._doors.config().answer_wait_s
        outcomes = await self._doors.send.many(sendings, wait_s=wait_s) if sendings else []
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                raise outcome
        marked = sum(isinstance(outcome, Committed) for outcome in outcomes)
        await self._socket.send(Read(sequence=until, messages=marked))

    async def _unread(self) -> list[MessageDoc]:
        found: list[MessageDoc] = []
        cursor: str | None = None
        for _ in range(UNREAD_PAGES_MAX):
            query = ListMessages(
                sender=Party(self._bot), recipient=self._me, state="delivered", cursor=cursor, limit=200
            )
            page = await self._doors.ask(query)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        return found


def _wrong(error: Behind | NotFound | Rejected | Refusal | Unavailable, ref: str | None) -> Wrong:
    refusal = refusal_of(error)
    after_s = refusal.headers.get("Retry-After")
    return Wrong(
        code=refusal.problem.code,
        detail=refusal.problem.detail,
        ref=ref,
        retry_after_s=None if after_s is None else int(after_s),
    )


SOCKETS: Final = (SocketRoute("/v1/bots/{name}/ws", READ, chat),)
