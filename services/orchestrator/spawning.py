"""A task that a bot spawns: what it gets from its parent, and when there shall be none."""

from typing import Final

from services.orchestrator.board import Board
from services.orchestrator.commands import RefuseSpawn, TaskWish
from services.orchestrator.decider.task import spawn_hash
from services.orchestrator.decider.task_state import Held, Task, Unknown
from shared.contracts.config import Config
from shared.contracts.orchestrator.commands import SpawnTask, SubmitTask
from shared.contracts.orchestrator.facts import RetryPolicy
from shared.contracts.words import (
    AFTER_MAX,
    ATTEMPTS_MAX,
    CONTENT_CHARS_MAX,
    INLINE_BYTES_MAX,
    NOT_SEEN_YET,
    TASK_TIMEOUT_MAX,
    is_name,
)

SHORTEST_S: Final = 0.05
DAY_S: Final = 86_400.0


def spawned(task: Task, spawn: SpawnTask, board: Board, config: Config) -> TaskWish:
    """The submission that it is, or its refusal. One that is there already answers for itself.

    While its parent's attempt is newer than what the board has seen, it is refused and asked for again: a
    command that is kept until then could be kept for ever, by whoever makes up tokens.
    """
    if not isinstance(task, Unknown):
        return spawn
    parent = board.task(spawn.parent)
    if not (isinstance(parent, Held) and (parent.token, parent.bot_id) == (spawn.token, spawn.bot_id)):
        if spawn.token > board.reached:
            return _refused(spawn, NOT_SEEN_YET, f"attempt {spawn.token} is newer than what is known")
        return _refused(
            spawn, "stale_token", f"attempt {spawn.token} of {spawn.parent} is not the current one"
        )
    order = parent.order
    ancestors = (*order.ancestors, order.task_id)
    if len(ancestors) > config.spawn_depth_max:
        return _refused(
            spawn, "spawn_too_deep", f"{spawn.parent} is {len(order.ancestors)} levels deep already"
        )
    if len(board.families.of(spawn.parent)) >= config.spawn_children_max:
        count = config.spawn_children_max
        return _refused(spawn, "too_many_children", f"{spawn.parent} has spawned {count} tasks")
    wrong = _wrong_field(spawn)
    if wrong is not None:
        return _refused(spawn, f"bad_{wrong}", f"`{wrong}` cannot be so")
    return SubmitTask(
        task_id=spawn.task_id,
        content=spawn.content,
        body_hash=spawn_hash(spawn),
        submitter=order.submitter,
        priority=order.priority if spawn.priority is None else spawn.priority,
        type=spawn.type,
        timeout_s=spawn.timeout_s,
        input=spawn.input,
        input_file=spawn.input_file,
        engine=spawn.engine,
        bot=spawn.bot,
        pool=spawn.pool,
        deadline=spawn.deadline,
        retry=spawn.retry,
        after=tuple(dict.fromkeys(spawn.after)),
        after_policy=spawn.after_policy,
        ancestors=ancestors,
        spawned_by=spawn.bot_id,
    )


def _refused(spawn: SpawnTask, code: str, detail: str) -> RefuseSpawn:
    return RefuseSpawn(task_id=spawn.task_id, code=code, detail=detail)


def _wrong_field(spawn: SpawnTask) -> str | None:
    """The first field that the gateway would not have let pass in a submission."""
    names = {"engine": spawn.engine, "bot": spawn.bot, "pool": spawn.pool, "task_id": spawn.task_id}
    wrong = [field for field, name in names.items() if name is not None and not is_name(name)]
    if not 0 < len(spawn.content) <= CONTENT_CHARS_MAX:
        wrong.append("content")
    if spawn.input is not None and len(spawn.input.encode()) > INLINE_BYTES_MAX:
        wrong.append("input")
    if not SHORTEST_S <= spawn.timeout_s <= TASK_TIMEOUT_MAX.total_seconds():
        wrong.append("timeout_s")
    if spawn.deadline is not None and spawn.deadline.tzinfo is None:
        wrong.append("deadline")
    if len(spawn.after) > AFTER_MAX or not all(map(is_name, spawn.after)):
        wrong.append("after")
    if not _is_possible(spawn.retry):
        wrong.append("retry")
    return wrong[0] if wrong else None


def _is_possible(retry: RetryPolicy) -> bool:
    pauses = (retry.backoff_first_s, retry.backoff_max_s)
    return 1 <= retry.attempts_max <= ATTEMPTS_MAX and all(SHORTEST_S <= each <= DAY_S for each in pauses)
