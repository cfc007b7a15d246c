"""The public facts about opinions."""

from shared.contracts.words import BotId, TaskType
from shared.kernel.messages import Fact


class PerformanceReset(Fact, frozen=True, kw_only=True):
    """What was known of a bot does not count any more: of one type of task, or of all."""

    bot_id: BotId
    type: TaskType | None = None


PerformanceFact = PerformanceReset
