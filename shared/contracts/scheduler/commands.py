"""What the scheduler can be asked to do."""

from typing import ClassVar

from shared.contracts.words import BotId, TaskType
from shared.kernel.messages import Command


class ResetPerformance(Command, frozen=True, kw_only=True):
    """Forget what is known of a bot: of one type of task, or of all. Attempts that end later count anew."""

    service: ClassVar[str] = "scheduler"
    aggregate: ClassVar[str] = "performance"
    key_field: ClassVar[str] = "bot_id"
    senders: ClassVar[frozenset[str]] = frozenset({"gateway"})
    opens: ClassVar[bool] = True

    bot_id: BotId
    type: TaskType | None = None


PerformanceRequest = ResetPerformance
