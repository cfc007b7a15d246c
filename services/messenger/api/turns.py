"""What a bot writes while it answers, shown as it appears: followed only while an answer is awaited."""

import asyncio
from collections import OrderedDict
from typing import Final, NoReturn

import msgspec

from services.messenger.api.frames import Ended, Live, LiveGap
from shared.contracts.messenger.queries import GetMessage, MessageDoc
from shared.contracts.words import MessageId, MessageKind, Party, TaskId
from shared.kernel.errors import NotFound
from shared.runtime.doors import Doors
from shared.runtime.live import Gap, Piece
from shared.runtime.websocket import Socket

TURNS_MAX: Final = 16  # awaited at a time on one connection; the oldest is given up for a new one
AWAITED: Final = frozenset({"pending", "delivered"})
READ: Final = "read"


class _Chunk(msgspec.Struct):
    index: int
    text: str
    channel: str = "out"


_chunk = msgspec.json.Decoder(_Chunk)


class Turns:
    """The chat messages of one connection that wait for their answers."""

    def __init__(self, socket: Socket, doors: Doors, tasks: asyncio.TaskGroup) -> None:
        self._socket = socket
        self._doors = doors
        self._tasks = tasks
        self._following: OrderedDict[MessageId, asyncio.Task[NoReturn]] = OrderedDict()
        self._read: set[MessageId] = set()

    def note(self, message: MessageDoc, me: Party) -> None:
        """A message of the conversation went out: a turn begins with it, or ends."""
        if message.sender == me:
            if message.kind is MessageKind.CHAT and message.state in AWAITED:
                self._begin(message.id)
        elif message.in_reply_to is not None:
            self._end(message.in_reply_to)

    async def look_after(self) -> None:
        """Tell of messages that ended without an answer."""
        for message_id in list(self._following):
            try:
                message = await self._doors.ask(GetMessage(message_id=message_id))
            except NotFound:
                continue
            if message.state == READ and message_id not in self._read:
                self._read.add(message_id)  # its answer may be on its way: it is told before the next look
            elif message.state not in AWAITED:
                self._end(message_id)
                await self._socket.send(
                    Ended(message_id=message_id, state=message.state, reason=message.reason)
                )

    def _begin(self, message_id: MessageId) -> None:
        while len(self._following) >= TURNS_MAX:
            self._end(next(iter(self._following)))
        self._following[message_id] = self._tasks.create_task(self._follow(message_id))

    def _end(self, message_id: MessageId) -> None:
        self._read.discard(message_id)
        following = self._following.pop(message_id, None)
        if following is not None:
            following.cancel()

    async def _follow(self, message_id: MessageId) -> NoReturn:
        async def hear(word: Piece | Gap) -> None:
            if isinstance(word, Gap):
                frame: Live | LiveGap = LiveGap(
                    message_id=message_id, after=word.after, before=word.before, missing=word.missing
                )
            else:
                chunk = _chunk.decode(word.data)
                frame = Live(
                    message_id=message_id,
                    sequence=word.sequence,
                    index=chunk.index,
                    text=chunk.text,
                    channel=chunk.channel,
                )
            await self._socket.send(frame)

        await self._doors.live.follow(TaskId(message_id), 0, hear)
