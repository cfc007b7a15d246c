"""Performs steps. Each may fail, be performed twice or come too late, and does no harm by it."""

import asyncio
from typing import Final, Protocol, assert_never

from services.messenger.commands import BroadcastWish, NoteSpread
from services.messenger.facts import MESSAGE_CODEC
from services.messenger.lanes import Letter
from services.messenger.scene import Scene
from services.messenger.steps import Decide, Fetch, Greet, Recall, Spread, Step, key_of
from shared.contracts.messenger.commands import SendMessage
from shared.contracts.messenger.facts import BroadcastSent, MessageSent
from shared.contracts.naming import GREETING, inbox_subject
from shared.contracts.words import BotId, MessageId, Party
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Cause, Outcome, Refused
from shared.runtime import metrics
from shared.runtime.connection import Connection
from shared.runtime.handler import recorded
from shared.runtime.ids import derived_id
from shared.runtime.intake import Decides
from shared.runtime.store import EventStore

SPREAD_AT_ONCE_MAX: Final = 64


class DecidesBroadcasts(Protocol):
    """The handler of broadcasts."""

    async def handle(self, command: BroadcastWish, cause: Cause, *, command_id: str | None = None) -> Outcome:
        """Decide one command."""
        ...


class Performer:
    """Does what reactions name. What it decides may lie in another owner's partition: the log guards it."""

    def __init__(
        self,
        scene: Scene,
        messages: Decides,
        broadcasts: DecidesBroadcasts,
        store: EventStore,
        connection: Connection,
    ) -> None:
        self._scene = scene
        self._messages = messages
        self._broadcasts = broadcasts
        self._store = store
        self._connection = connection

    async def perform(self, step: Step) -> None:
        """Do it. Unavailable: it stays outstanding."""
        match step:
            case Decide():
                command_id = derived_id("messenger", *key_of(step))
                await self._messages.handle(step.command, step.cause, command_id=command_id)
            case Spread():
                await self._spread(step.broadcast_id)
            case Greet():
                metrics.GREETINGS.inc()
                await self._connection.publish(inbox_subject(step.bot_id, GREETING), b"")
            case Fetch():
                await self._fetch(step.message_id)
            case Recall():
                await self._recall(step.message_id)
            case _:
                assert_never(step)

    async def _fetch(self, message_id: MessageId) -> None:
        commits = await self._store.read("message", message_id)
        sent = MESSAGE_CODEC.decode(commits[0].commit.facts[0])
        assert isinstance(sent, MessageSent), sent
        self._scene.board.put_letter(message_id, Letter(sent, commits[0].commit.at, commits[0].commit.chain))

    async def _recall(self, message_id: MessageId) -> None:
        past = [
            recorded(
                MESSAGE_CODEC.decode_all(stored.commit.facts),
                stored.commit,
                stored.aggregate,
                stored.aggregate_id,
                stored.sequence,
            )
            for stored in await self._store.read("message", message_id)
        ]
        self._scene.board.recall(message_id, past)

    async def _spread(self, broadcast_id: str) -> None:
        """Send what does not exist yet; sent again, a message is known by its id."""
        commit = self._scene.board.broadcasts.get(broadcast_id)
        if commit is None:
            return
        sent = commit.facts[0]
        assert isinstance(sent, BroadcastSent), sent
        cause = Cause(
            message_id=commit.commit_id,
            correlation_id=commit.cause.correlation_id,
            actor=commit.cause.actor,
        )
        places = asyncio.Semaphore(SPREAD_AT_ONCE_MAX)
        refused: dict[BotId, str] = {}

        async def send(bot_id: BotId) -> None:
            async with places:
                outcome = await self._messages.handle(
                    _message(sent, bot_id), cause, command_id=derived_id("spread", broadcast_id, bot_id)
                )
            if isinstance(outcome, Refused):
                refused[bot_id] = outcome.code

        try:
            async with asyncio.TaskGroup() as sending:
                for bot_id in sent.recipients:
                    sending.create_task(send(bot_id))
        except* Unavailable as away:
            raise away.exceptions[0] from None
        spread = NoteSpread(broadcast_id=broadcast_id, refused=refused)
        await self._broadcasts.handle(spread, cause, command_id=derived_id("all spread", broadcast_id))


def _message(sent: BroadcastSent, bot_id: BotId) -> SendMessage:
    return SendMessage(
        message_id=MessageId(derived_id("broadcast", sent.broadcast_id, bot_id)),
        sender=sent.sender,
        recipient=Party(bot_id),
        content=sent.content,
        body_hash=sent.body_hash,
        priority=sent.priority,
        kind=sent.kind,
        ttl_s=sent.ttl_s,
        broadcast=sent.broadcast_id,
    )
