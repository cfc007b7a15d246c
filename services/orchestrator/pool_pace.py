"""How long tasks run, and since when bots have nothing: heard from the log, on our own clock."""

from typing import Any, Final

from shared.contracts.orchestrator.facts import (
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskSubmitted,
)
from shared.contracts.words import BotId, TaskId, TaskType
from shared.kernel.messages import Recorded

SAMPLES_MIN: Final = 3  # fewer are no history
NEWEST_WEIGHS: Final = 0.2


class Pace:
    """The mean run time of each type of task in each pool, and each bot's last moment with a task."""

    def __init__(self) -> None:
        self._types: dict[TaskId, TaskType] = {}
        self._means: dict[tuple[str, TaskType], tuple[int, float]] = {}
        self._touched: dict[BotId, float] = {}

    def hear(self, commit: Recorded[Any], pool_of: dict[BotId, str], mono: float) -> None:
        """A commit of a task. Whose beginning was not heard teaches nothing."""
        task_id = TaskId(commit.aggregate_id)
        for fact in commit.facts:
            bot_id: BotId | None = getattr(fact, "bot_id", None)
            if bot_id is not None:
                self._touched[bot_id] = mono
            match fact:
                case TaskSubmitted():
                    self._types[task_id] = fact.type
                case TaskCompleted():
                    kind, pool = self._types.pop(task_id, None), pool_of.get(fact.bot_id)
                    if kind is not None and pool is not None:
                        self._learn(pool, kind, (fact.ended_at - fact.started_at).total_seconds())
                case TaskFailed() | TaskCancelled() | TaskExpired():
                    self._types.pop(task_id, None)
                case _:
                    pass

    def mean_run_s(self, pool: str, kind: TaskType) -> float | None:
        """How long a task of this type runs there, on average; the newest count most."""
        count, mean = self._means.get((pool, kind), (0, 0.0))
        return mean if count >= SAMPLES_MIN else None

    def idle_s(self, bot_id: BotId, mono: float) -> float:
        """For how long it has had nothing; since it is first asked for, if nothing is known."""
        return mono - self._touched.setdefault(bot_id, mono)

    def busy(self, bot_id: BotId, mono: float) -> None:
        """It has something now."""
        self._touched[bot_id] = mono

    def forget(self, bot_id: BotId) -> None:
        """It is gone, or another life of it began."""
        self._touched.pop(bot_id, None)

    def keep_only(self, bots: dict[BotId, Any]) -> None:
        """Forget bots that are no more."""
        for bot_id in [each for each in self._touched if each not in bots]:
            del self._touched[bot_id]

    def _learn(self, pool: str, kind: TaskType, run_s: float) -> None:
        count, mean = self._means.get((pool, kind), (0, 0.0))
        weight = max(NEWEST_WEIGHS, 1 / (count + 1))
        self._means[pool, kind] = (count + 1, mean + weight * (max(0.0, run_s) - mean))
