"""The messenger at work: follows the log, hears Hello, sends mail, and does what is outstanding."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.messenger import reactions
from services.messenger.answers import Answers
from services.messenger.lanes import LANE_OF
from services.messenger.scene import Moment, Scene
from services.messenger.steps import Fetch, Step, key_of
from shared.contracts.messenger.protocol import Hello, HelloAnswer
from shared.contracts.naming import LANES, inbox_subject, partition_of
from shared.contracts.words import LANE_WINDOW, BotId, Priority
from shared.kernel.codec import encode
from shared.kernel.errors import Behind, Unavailable
from shared.kernel.messages import Recorded
from shared.runtime import metrics
from shared.runtime.connection import Connection
from shared.runtime.outstanding import Outstanding

TICK_S: Final = 0.25
"""How often time is looked at: a message expires, or is tried again, at most so much late."""

SESSION_S: Final = 0.25
"""A bot's next session begins no sooner after one: each brings all that is unread of its windows again."""

_log = logging.getLogger(__name__)
_MAILS: Final = {priority: metrics.MAILS.labels(priority.value) for priority in Priority}
_WAITING: Final = tuple(metrics.MAIL_WAITING.labels(priority.value) for priority in Priority)


class Messenger:
    """Sends only what the log has told, in its order, and only to bots whose partition is ours.

    What a commit lets go is sent at once, what time brings within TICK_S, and everything is looked at again
    by `todo`: so a step that failed, or whose process died, is only late.
    """

    def __init__(
        self,
        scene: Scene,
        answers: Answers,
        connection: Connection,
        *,
        moment: Callable[[], Moment],
        owned: Callable[[], frozenset[int]],
        owned_now: Callable[[], Awaitable[frozenset[int]]],
        up_to_date: Callable[[], Awaitable[None]],
    ) -> None:
        self._scene = scene
        self._board = scene.board
        self._answers = answers
        self._connection = connection
        self._moment = moment
        self._owned = owned
        self._owned_now = owned_now
        self._up_to_date = up_to_date
        self._hellos: dict[BotId, tuple[Hello, str]] = {}
        self._wake = asyncio.Event()
        self._outstanding: Outstanding[Step]
        self._group: asyncio.TaskGroup

    def followed(self, commit: Recorded[Any]) -> None:
        """A commit as the log tells it."""
        match commit.aggregate:
            case "message":
                self._board.take_message(commit)
                self._answers.heard(commit)
            case "broadcast":
                self._board.take_broadcast(commit)
            case "bot":
                self._board.take_bot(commit)
            case _:
                self._board.take_key(commit)
        self._wake.set()

    def hear(self, hello: Hello, reply_to: str) -> None:
        """A bot says Hello. Only who owns its partition answers."""
        if partition_of(hello.bot_id) not in self._board.owned:
            return
        waiting = hello.bot_id in self._hellos
        self._hellos[hello.bot_id] = (hello, reply_to)
        if not waiting:
            self._group.create_task(self._meet(hello.bot_id))

    async def run(self, perform: Callable[[Step], Awaitable[None]]) -> None:
        """Do what becomes outstanding, for ever."""
        async with asyncio.TaskGroup() as self._group:
            self._outstanding = Outstanding(self._group, perform, key_of)
            self._group.create_task(self._react())
            self._group.create_task(self._tick())

    async def on_reconnect(self) -> None:
        """What was said while we were away is lost, on both sides: every session begins anew."""
        self._board.end_sessions()
        self._scene.greetings.clear()
        self._wake.set()

    async def todo(self, owned: frozenset[int]) -> None:
        """Everything outstanding in these partitions."""
        self._look_at_ownership(owned)
        if self._board.owned:
            self._outstanding.begin(reactions.todo(self._scene, self._moment()))
        self._measure()

    def _measure(self) -> None:
        board = self._board
        boxes = [box for box in board.boxes.values() if box.partition in board.owned]
        for place, gauge in enumerate(_WAITING):
            gauge.set(sum(box.lanes[place].waiting for box in boxes))
        metrics.MAIL_SESSIONS.set(len(board.sessions))

    async def _meet(self, bot_id: BotId) -> None:
        """Begin a session with all that the log holds by now. Of several Hellos only the newest is answered.

        While a partition moves, its old owner may believe for a moment that it still has it: the broker
        knows better.
        """
        hello, reply_to = self._hellos[bot_id]
        try:
            if self._session_of(bot_id) != hello.session:
                await asyncio.sleep(self._session_left_s(bot_id))
                owned = await self._owned_now()
                await self._up_to_date()
                hello, reply_to = self._hellos[bot_id]
                if partition_of(bot_id) not in owned & self._board.owned:
                    return
            if self._session_of(bot_id) != hello.session:
                self._board.begin_session(hello, self._moment().mono)
                self._scene.greetings.drop(bot_id)
            answer = HelloAnswer(session=hello.session, lane_window=LANE_WINDOW)
            await self._connection.publish(reply_to, encode(answer))
        except (Behind, Unavailable) as away:
            _log.info("the hello of %s is not answered: %s", bot_id, away)
        finally:
            del self._hellos[bot_id]
        self._wake.set()

    def _session_left_s(self, bot_id: BotId) -> float:
        box = self._board.sessions.get(bot_id)
        if box is None or box.session is None:
            return 0.0
        return max(0.0, box.session.begun + SESSION_S - self._moment().mono)

    def _session_of(self, bot_id: BotId) -> str | None:
        box = self._board.sessions.get(bot_id)
        return None if box is None or box.session is None else box.session.name

    async def _react(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._look_at_ownership(self._owned())
            if self._board.owned:
                await self._send()
            else:
                self._board.touched.clear()

    async def _send(self) -> None:
        """Send what may go, and begin what that needs."""
        board, moment = self._board, self._moment()
        touched, board.touched = board.touched, set()
        for bot_id in touched:
            box = board.boxes.get(bot_id)
            if box is None:
                continue
            if box.session is None:
                if reactions.wants_greeting(board, box, moment.mono):
                    self._scene.greetings.want(bot_id, moment.mono)
                continue
            self._outstanding.begin(reactions.lost(box))
            mails, missing = board.to_send(box, moment.utc, moment.mono)
            self._outstanding.begin([Fetch(message_id) for message_id in missing])
            try:
                for mail in mails:
                    lane = LANES[LANE_OF[mail.priority]]
                    await self._connection.publish(inbox_subject(bot_id, lane), encode(mail))
                    _MAILS[mail.priority].inc()
            except Unavailable as away:
                _log.info("mail to %s is lost: %s", bot_id, away)  # it is sent anew after the reconnect
        self._outstanding.begin(reactions.greet(self._scene, moment.mono))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._look_at_ownership(self._owned())
            if self._board.owned:
                self._outstanding.begin(reactions.passed(self._scene, self._moment()))
            if self._board.touched:
                self._wake.set()

    def _look_at_ownership(self, owned: frozenset[int]) -> None:
        """Nothing is sent before a Hello, and none is answered before we know all that was decided."""
        if owned != self._board.owned:
            self._board.own_partitions(owned)
            self._wake.set()
