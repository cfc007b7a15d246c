"""What others think of our bots: the scheduler of how good they are at what, health of how they are."""

from collections import Counter

from shared.contracts.health import Health, Level
from shared.contracts.scheduler.routing import RoutingTable
from shared.contracts.words import BotId, TaskType


class Opinions:
    """The last word of each; nothing is forgotten because who said it is away.

    `news` counts the changes of a type's table, `shifts` those of health.
    """

    def __init__(self) -> None:
        self.tables: dict[TaskType, RoutingTable] = {}
        self.health: dict[BotId, Health] = {}
        self.news: Counter[TaskType] = Counter()
        self.shifts = 0

    def take_table(self, kind: TaskType, table: RoutingTable | None) -> None:
        """The scheduler says it anew; None: it takes back what it said."""
        if self.tables.get(kind) == table:
            return
        self.news[kind] += 1
        if table is None:
            del self.tables[kind]
        else:
            self.tables[kind] = table

    def take_health(self, bot_id: BotId, health: Health | None) -> None:
        """Health says it anew; None: it takes back what it said."""
        before = self.level(bot_id)
        if health is None:
            self.health.pop(bot_id, None)
        else:
            self.health[bot_id] = health
        self.shifts += before is not self.level(bot_id)

    def level(self, bot_id: BotId) -> Level:
        """How a bot is; healthy if nobody says otherwise."""
        health = self.health.get(bot_id)
        return Level.HEALTHY if health is None else health.level
