"""Tasks that a running task's bot spawns: begin them, look at them, wait for them.

Whatever is asked is asked again until it is known, across restarts of the broker and the orchestrator. An
attempt that begins anew finds what the one before it has spawned: the same key is the same task.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bots.outbox import Outbox
from bots.post import Patience
from shared.contracts import words
from shared.contracts.naming import children_subject
from shared.contracts.orchestrator.commands import SpawnTask
from shared.contracts.orchestrator.protocol import Assignment, Child, ChildrenAsked, ChildrenTold
from shared.contracts.words import CHILDREN_MAX, BotId, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import AlreadySo, Committed, Failed, Refused
from shared.runtime.clock import monotonic
from shared.runtime.connection import Connection
from shared.runtime.ids import derived_id, new_id

JOIN_STEP_S: Final = 5.0  # of one question: who answers it may die meanwhile, and say nothing
ANSWER_S: Final = 3.0  # what an answer may take besides the wait that is asked for
JOIN_WITHIN_S: Final = 3_600.0
ERROR_HEADER: Final = "Hive-Error"

_told = msgspec.json.Decoder(ChildrenTold)
_log = logging.getLogger(__name__)


class ChildrenRefused(Exception):
    """The attempt may not ask this, or not any more; `code` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class NotSpawned(ChildrenRefused):
    """The task was not taken."""


class NotJoined(TimeoutError):
    """They have not ended in time. `children`: how they were last."""

    def __init__(self, children: Sequence[Child], within_s: float) -> None:
        super().__init__(f"not ended within {within_s:g} s")
        self.children = tuple(children)


class Children:
    """Those of one attempt's task."""

    def __init__(self, connection: Connection, outbox: Outbox, bot_id: BotId, task: Assignment) -> None:
        self._connection = connection
        self._outbox = outbox
        self._bot_id = bot_id
        self._task = task
        self._spawned = Counter[str]()

    async def spawn(self, asked: SpawnTask, key: str | None) -> TaskId:
        """Its id when it was taken. Without a key, the same words the n-th time are the same task."""
        if key is None:
            said = hashlib.sha256(
                encode(msgspec.structs.replace(asked, token=0, bot_id=BotId("")))
            ).hexdigest()
            self._spawned[said] += 1
            key = f"{said}:{self._spawned[said]}"
        task_id = TaskId(derived_id("spawn", self._task.task_id, key))
        command = msgspec.structs.replace(asked, task_id=task_id)
        patience = Patience()
        while True:
            outcome = await self._outbox.send(command, command_id=new_id(), chain=self._task.chain)
            match outcome:
                case Committed() | AlreadySo():
                    return task_id
                case Refused(code=words.NOT_SEEN_YET):
                    await patience.pause()  # a stale attempt is cancelled meanwhile, and this with it
                case Refused():
                    raise NotSpawned(outcome.code, outcome.detail)
                case Failed():
                    raise NotSpawned("dead_lettered", outcome.detail)

    async def join(self, ids: Iterable[TaskId], *, every: bool, within_s: float) -> list[Child]:
        """Those of them that have ended, with their results, when all have, or any."""
        wanted = tuple(dict.fromkeys(ids))
        deadline = monotonic() + within_s
        while wanted:
            left = max(0.0, deadline - monotonic())
            step = min(left, JOIN_STEP_S)
            told = await self._ask(wanted, "all" if every else "any", step, deadline)
            ended = [child for child in told if _has_ended(child)]
            if len(ended) == len(wanted) or (ended and not every):
                return await self._whole(ended)
            if left <= step:
                raise NotJoined(told, within_s)
        return []

    async def all(self) -> list[Child]:
        """How all of them are now."""
        return await self._whole(await self._ask((), "now", 0.0, monotonic() + JOIN_WITHIN_S))

    async def _whole(self, children: Sequence[Child]) -> list[Child]:
        """With the results that did not fit into one answer."""
        found: list[Child] = []
        for child in children:
            if child.more:
                found += await self._ask((child.id,), "now", 0.0, monotonic() + JOIN_WITHIN_S)
            else:
                found.append(child)
        return found

    async def _ask(
        self, ids: tuple[TaskId, ...], until: str, within_s: float, deadline: float
    ) -> tuple[Child, ...]:
        """Ask until it is answered. Unavailable: nobody did before the deadline."""
        assert len(ids) <= CHILDREN_MAX, len(ids)
        asked = ChildrenAsked(
            task_id=self._task.task_id, token=self._task.token, ids=ids, until=until, within_s=within_s
        )
        subject, patience = children_subject(self._bot_id), Patience()
        while True:
            try:
                answer = await self._connection.request(subject, encode(asked), timeout=within_s + ANSWER_S)
            except Unavailable as error:
                trouble = str(error)
            else:
                told = (answer.headers or {}).get(ERROR_HEADER, "")
                if not told:
                    return _told.decode(answer.data).children
                kind, _, code = told.partition(":")
                trouble = answer.data.decode(errors="replace")
                if kind != "unavailable":
                    raise ChildrenRefused(code or kind, trouble)
            _log.info("%s: %s", subject, trouble)
            if monotonic() >= deadline + ANSWER_S:
                raise Unavailable(trouble)
            await patience.pause()


def _has_ended(child: Child) -> bool:
    return child.state in ("completed", "failed", "cancelled", "expired")
