"""Everything our subjects store: the public facts, and one that only we understand."""

from typing import Final

from shared.contracts.orchestrator.facts import BotFact, TaskFact
from shared.contracts.orchestrator.pools import PoolFact
from shared.contracts.words import BotId
from shared.kernel.codec import Codec
from shared.kernel.messages import Fact


class BotCleared(Fact, frozen=True, kw_only=True):
    """What a retired bot left is gone: its process, its broker user, its queue. The name is free."""

    bot_id: BotId
    generation: int


TaskEvent = TaskFact
BotEvent = BotFact | BotCleared
PoolEvent = PoolFact

TASK_CODEC: Final[Codec[TaskEvent]] = Codec(TaskEvent)
BOT_CODEC: Final[Codec[BotEvent]] = Codec(BotEvent)
POOL_CODEC: Final[Codec[PoolEvent]] = Codec(PoolEvent)
