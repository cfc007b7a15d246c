"""A past in a few words: tasks that were given to bots, and how they ended, as the log tells them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from services.scheduler.facts import BOTS_HEARD, PERFORMANCE_CODEC, TASKS_HEARD
from services.scheduler.projection import Books, Changes
from shared.contracts.config import Config
from shared.contracts.orchestrator.facts import (
    AttemptFailed,
    AttemptLost,
    BotCameUp,
    BotLaunched,
    BotSpec,
    Candidate,
    Decision,
    Output,
    TaskAssigned,
    TaskCompleted,
    TaskError,
    TaskFailed,
    TaskSubmitted,
    Usage,
)
from shared.contracts.scheduler.facts import PerformanceReset
from shared.contracts.words import BotId, Priority, TaskId, TaskType
from shared.kernel.codec import Codec, encode
from shared.kernel.messages import Cause, Fact, Recorded
from tests.support.scenario import NOON

CODE = TaskType.CODE
CODECS: dict[str, Codec[Any]] = {"task": TASKS_HEARD, "bot": BOTS_HEARD, "performance": PERFORMANCE_CODEC}
CAUSE = Cause(message_id="cause", correlation_id="chain", actor="test")


class History:
    """The commits so far."""

    def __init__(self) -> None:
        self.commits: list[Recorded[Any]] = []
        self.at: datetime = NOON
        self._tasks = 0

    def commit(self, aggregate: str, aggregate_id: str, *facts: Fact) -> Recorded[Any]:
        sequence = len(self.commits) + 1
        recorded = Recorded(
            facts=CODECS[aggregate].decode_known([encode(fact) for fact in facts]),
            commit_id=f"commit-{sequence}",
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            sequence=sequence,
            at=self.at,
            cause=CAUSE,
        )
        self.commits.append(recorded)
        self.at += timedelta(seconds=1)
        return recorded

    def bots(self, *names: str, types: tuple[TaskType, ...] = ()) -> None:
        for name in names:
            spec = BotSpec(engine="echo", types=types)
            self.commit("bot", name, BotLaunched(bot_id=BotId(name), spec=spec, generation=1))
            up = BotCameUp(bot_id=BotId(name), generation=1, pid=1, host="local")
            self.commit("bot", name, up)

    def given(
        self,
        bot: str,
        kind: TaskType = CODE,
        *,
        candidates: Sequence[str] = (),
        propensity: float | None = None,
    ) -> tuple[TaskId, int]:
        """A new task, given to a bot at once: its id, and the token."""
        self._tasks += 1
        task_id = TaskId(f"task-{self._tasks}")
        names = candidates or (bot,)
        decision = Decision(
            candidates=[Candidate(bot_id=BotId(name), free=3) for name in names],
            candidates_total=len(names),
            propensity=propensity,
        )
        token = self.commit(
            "task",
            task_id,
            submitted(task_id, kind),
            TaskAssigned(task_id=task_id, bot_id=BotId(bot), attempt=1, decision=decision),
        ).sequence
        return task_id, token

    def completes(
        self,
        bot: str,
        task: tuple[TaskId, int],
        *,
        run_s: float = 1.0,
        cost_usd: float = 0.0,
        tokens: int = 0,
    ) -> None:
        task_id, token = task
        done = TaskCompleted(
            task_id=task_id,
            bot_id=BotId(bot),
            token=token,
            attempt=1,
            started_at=self.at - timedelta(seconds=run_s),
            ended_at=self.at,
            output=Output(),
            usage=Usage(tokens_in=tokens, cost_usd=cost_usd),
        )
        self.commit("task", task_id, done)

    def fails(
        self, bot: str, task: tuple[TaskId, int], *, retryable: bool = True, cost_usd: float = 0.0
    ) -> None:
        task_id, token = task
        error = TaskError(code="exit_nonzero", detail="1")
        failed = AttemptFailed(
            task_id=task_id,
            bot_id=BotId(bot),
            token=token,
            attempt=1,
            error=error,
            started_at=self.at,
            ended_at=self.at,
            usage=Usage(cost_usd=cost_usd),
            retryable=retryable,
        )
        self.commit("task", task_id, failed, TaskFailed(task_id=task_id, error=error, attempts=1))

    def loses(self, bot: str, task: tuple[TaskId, int], reason: str) -> None:
        task_id, token = task
        self.commit(
            "task",
            task_id,
            AttemptLost(task_id=task_id, bot_id=BotId(bot), token=token, attempt=1, reason=reason),
        )

    def done(self, bot: str, kind: TaskType = CODE, *, run_s: float = 1.0, cost_usd: float = 0.0) -> None:
        """A task from its beginning to its good end."""
        self.completes(bot, self.given(bot, kind), run_s=run_s, cost_usd=cost_usd)

    def failed(self, bot: str, kind: TaskType = CODE) -> None:
        self.fails(bot, self.given(bot, kind))

    def reset(self, bot: str, kind: TaskType | None = None) -> None:
        self.commit("performance", bot, PerformanceReset(bot_id=BotId(bot), type=kind))

    def books(self, config: Config | None = None) -> Books:
        """What is known after all of it."""
        books = Books(lambda: config or Config())
        for commit in self.commits:
            books.take(commit, Changes())
        return books


def submitted(task_id: TaskId, kind: TaskType = CODE) -> TaskSubmitted:
    return TaskSubmitted(
        task_id=task_id,
        type=kind,
        type_reason="given",
        content="hello",
        priority=Priority.P2,
        submitter="key-1",
        body_hash="0",
        timeout_s=60.0,
    )
