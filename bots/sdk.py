"""Write your own bot: a function that does a task's work, and `await Bot.from_env().run(work)`.

The bot must have been launched as somebody else's (`--engine external`): its host then makes its credentials
and starts no process. See docs/bot-protocol.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from bots import identity
from bots.children import JOIN_WITHIN_S, Children, ChildrenRefused, NotJoined, NotSpawned
from bots.engines import Emit, Work
from bots.engines.choice import EXTERNAL
from bots.engines.echo import text_output
from bots.identity import Identity
from bots.runtime import BotProcess, run
from bots.talk import ASK_WITHIN_S, Failed, Message, NoAnswer, NotSent, OnMessage
from shared.contracts.naming import bot_sender
from shared.contracts.orchestrator.commands import Done, End, SpawnTask, Undone
from shared.contracts.orchestrator.facts import BotSpec, RetryPolicy, TaskError
from shared.contracts.orchestrator.protocol import Child
from shared.contracts.words import (
    MESSAGE_TTL_DEFAULT,
    SLOTS_DEFAULT,
    TASK_TIMEOUT_DEFAULT,
    AfterPolicy,
    BotId,
    MessageId,
    MessageKind,
    Priority,
    TaskId,
    TaskType,
    is_name,
)
from shared.kernel.errors import Unavailable
from shared.runtime import settings

__all__ = [
    "AfterPolicy",
    "Bot",
    "Child",
    "ChildrenRefused",
    "Failed",
    "Message",
    "MessageKind",
    "NoAnswer",
    "NotJoined",
    "NotSent",
    "NotSpawned",
    "Priority",
    "RetryPolicy",
    "Task",
    "TaskType",
]


class Task:
    """What is to be done, and where to say how it goes."""

    def __init__(self, work: Work, out: Emit, bot_id: BotId, children: Children) -> None:
        self._work = work
        self._out = out
        self._bot_id = bot_id
        self._children = children

    @property
    def id(self) -> TaskId:
        """The task's id."""
        return self._work.task.task_id

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self._work.task.attempt

    @property
    def type(self) -> TaskType:
        """What kind of work it is."""
        return self._work.task.type

    @property
    def content(self) -> str:
        """What is asked for."""
        return self._work.task.content

    @property
    def input(self) -> str | None:
        """What was given along with it."""
        return self._work.input

    def write(self, text: str) -> None:
        """Show a piece of output now; it belongs to the result, too, if the function returns None."""
        self._out.write(text)

    def progress(self, share: float) -> None:
        """How much is done, from 0 to 1."""
        self._out.progress(share)

    async def spawn(
        self,
        content: str,
        *,
        key: str | None = None,
        type: TaskType | None = None,  # noqa: A002  as everywhere
        priority: Priority | None = None,
        input: str | None = None,  # noqa: A002
        engine: str | None = None,
        bot: str | None = None,
        pool: str | None = None,
        timeout_s: float = TASK_TIMEOUT_DEFAULT.total_seconds(),
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  it never changes
        after: Iterable[TaskId] = (),
        after_policy: AfterPolicy = AfterPolicy.COMPLETED,
    ) -> TaskId:
        """Have something done apart from this; its id when it was taken. NotSpawned: it was not, see `code`.

        Another attempt of this task that spawns with the same `key` gets the same task. Without one, the
        same words the n-th time are the same task.
        """
        asked = SpawnTask(
            task_id=self.id,
            bot_id=self._bot_id,
            parent=self.id,
            token=self._work.task.token,
            content=content,
            priority=priority,
            type=type,
            timeout_s=timeout_s,
            input=input,
            engine=engine,
            bot=None if bot is None else BotId(bot),
            pool=pool,
            retry=retry,
            after=tuple(after),
            after_policy=after_policy,
        )
        return await self._children.spawn(asked, key)

    async def join(
        self,
        ids: Iterable[TaskId],
        *,
        all: bool = True,  # noqa: A002  as in the design
        within_s: float = JOIN_WITHIN_S,
    ) -> list[Child]:
        """Wait until all of them have ended, or any; those that have. NotJoined, a TimeoutError: not in time.

        Waiting keeps this bot's slot.
        """
        return await self._children.join(ids, every=all, within_s=within_s)

    async def children(self) -> list[Child]:
        """All that this task has spawned, in earlier attempts, too; with results where there are any."""
        return await self._children.all()


Handler = Callable[[Task], Awaitable[str | None]]
"""Does one task: returns its output (None: all that was written), or raises Failed. Cancelled, it ends."""


class Handled:
    """An engine made of a function."""

    def __init__(self, handler: Handler, bot_id: BotId, running: Callable[[], Awaitable[BotProcess]]) -> None:
        self._handler = handler
        self._bot_id = bot_id
        self._running = running

    async def run(self, work: Work, out: Emit) -> End:
        """Call it."""
        try:
            children = (await self._running()).children_of(work.task)
            text = await self._handler(Task(work, out, self._bot_id, children))
        except Failed as failed:
            error = TaskError(code=failed.code, detail=failed.detail)
            return Undone(error=error, output=out.output(), retryable=failed.retryable)
        return Done(output=out.output() if text is None else text_output(text))


class Bot:
    """One bot of somebody's own."""

    def __init__(self, url: str, creds: Path | None, bot_id: str, *, slots: int = SLOTS_DEFAULT) -> None:
        assert is_name(bot_id), bot_id
        told = settings.load({}, nats_url=url, creds=creds, sender=bot_sender(bot_id), host_id=EXTERNAL)
        self._identity = Identity(
            bot_id=BotId(bot_id),
            generation=1,
            spec=BotSpec(engine=EXTERNAL, slots=slots),
            workspace=Path.cwd(),
            environment={},
            settings=told,
        )
        self._begun = asyncio.Event()
        self._process: BotProcess

    @classmethod
    def from_env(cls, *, slots: int = SLOTS_DEFAULT) -> "Bot":
        """As HIVE_BOT, at HIVE_NATS_URL, with the credentials of HIVE_CREDS."""
        told = identity.load()
        return cls(told.settings.nats_url, told.settings.creds, told.bot_id, slots=slots)

    async def run(self, work: Handler | None = None, *, on_message: OnMessage | None = None) -> None:
        """Work until told to leave, or a SIGTERM; Unavailable when the broker does not let the bot in.

        `work` does tasks, `on_message` handles messages. Without `on_message`, `work` also answers chat
        messages, as if each were a task; without `work` the bot is given no tasks.
        """
        assert work is not None or on_message is not None, "a bot without a function does nothing"
        engine = Handled(work, self._identity.bot_id, self._running) if work is not None else None
        if not await run(self._identity, engine, on_message, self._begin):
            raise Unavailable(f"the broker does not let {self._identity.bot_id} in any more")

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
        """Send a message, when the bot runs; its id when it was accepted. NotSent: it was not, see `code`.

        What is sent to one recipient with one priority arrives in the order in which it was begun.
        """
        talk = (await self._running()).talk
        return await talk.send(to, content, priority=priority, ttl_s=ttl_s, hold=hold, kind=kind)

    async def ask(
        self,
        to: str,
        content: str,
        *,
        within_s: float = ASK_WITHIN_S,
        priority: Priority = Priority.P2,
        kind: MessageKind = MessageKind.CHAT,
    ) -> Message:
        """Send a message and wait for the answer; NoAnswer, a TimeoutError, when there is none in time."""
        talk = (await self._running()).talk
        return await talk.ask(to, content, within_s=within_s, priority=priority, kind=kind)

    async def drain(self) -> None:
        """Begin nothing new; `run` returns when what is in hand has ended."""
        (await self._running()).drain()

    def _begin(self, process: BotProcess) -> None:
        self._process = process
        self._begun.set()

    async def _running(self) -> BotProcess:
        await self._begun.wait()
        return self._process
