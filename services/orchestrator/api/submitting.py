"""A task that was asked for becomes a command: its id, its body's hash, and its input where it belongs."""

from services.orchestrator.api.requests import NewTask
from shared.contracts.orchestrator.commands import SubmitTask
from shared.contracts.orchestrator.queries import PutFile
from shared.contracts.words import INLINE_BYTES_MAX, BotId, TaskId
from shared.runtime.doors import Doors, Principal
from shared.runtime.ids import derived_id, new_id


def id_for(caller: Principal, *key: str) -> TaskId:
    """The id of a task: always the same for the same caller and key, a new one without a key."""
    return TaskId(derived_id(caller.key_id, *key) if key else new_id())


async def submission(doors: Doors, caller: Principal, task_id: TaskId, asked: NewTask) -> SubmitTask:
    """The command. Large input is stored first: the broker's messages are small."""
    asked.check()
    inline, file = asked.input, None
    if inline is not None and len(data := inline.encode()) > INLINE_BYTES_MAX:
        inline, file = None, await doors.ask(PutFile(data=data))
    return SubmitTask(
        task_id=task_id,
        content=asked.content,
        body_hash=asked.body_hash(),
        submitter=caller.key_id,
        priority=asked.priority,
        type=asked.type,
        timeout_s=asked.timeout_s,
        input=inline,
        input_file=file,
        engine=asked.engine,
        bot=None if asked.bot is None else BotId(asked.bot),
        pool=asked.pool,
        deadline=asked.deadline,
        retry=asked.retry.policy(),
        after=_after(caller, asked),
        after_policy=asked.after_policy,
    )


def _after(caller: Principal, asked: NewTask) -> tuple[TaskId, ...]:
    """All that it comes after, each once."""
    named = (*map(TaskId, asked.after), *(id_for(caller, key) for key in asked.after_keys))
    return tuple(dict.fromkeys(named))
