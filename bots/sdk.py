"""Write your own bot: a function that does a task's work, and `await Bot.from_env().run(work)`.

The bot must have been launched as somebody else's (`--engine external`): its host then makes its credentials
and starts no process. See docs/bot-protocol.md.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from bots import identity
from bots.engines import Emit, Work
from bots.engines.choice import EXTERNAL
from bots.engines.echo import text_output
from bots.identity import Identity
from bots.runtime import run
from shared.contracts.naming import bot_sender
from shared.contracts.orchestrator.commands import Done, End, Undone
from shared.contracts.orchestrator.facts import BotSpec, TaskError
from shared.contracts.words import SLOTS_DEFAULT, BotId, TaskId, TaskType, is_name
from shared.kernel.errors import Unavailable
from shared.runtime import settings


class Failed(Exception):
    """Raised by a bot's function: the task is not done. `retryable` False: another try would end alike."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable


class Task:
    """What is to be done, and where to say how it goes."""

    def __init__(self, work: Work, out: Emit) -> None:
        self._work = work
        self._out = out

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


Handler = Callable[[Task], Awaitable[str | None]]
"""Does one task: returns its output (None: all that was written), or raises Failed. Cancelled, it ends."""


class Handled:
    """An engine made of a function."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def run(self, work: Work, out: Emit) -> End:
        """Call it."""
        try:
            text = await self._handler(Task(work, out))
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

    @classmethod
    def from_env(cls, *, slots: int = SLOTS_DEFAULT) -> "Bot":
        """As HIVE_BOT, at HIVE_NATS_URL, with the credentials of HIVE_CREDS."""
        told = identity.load()
        return cls(told.settings.nats_url, told.settings.creds, told.bot_id, slots=slots)

    async def run(self, handler: Handler) -> None:
        """Work until told to leave, or a SIGTERM; Unavailable when the broker does not let the bot in."""
        if not await run(self._identity, Handled(handler)):
            raise Unavailable(f"the broker does not let {self._identity.bot_id} in any more")
