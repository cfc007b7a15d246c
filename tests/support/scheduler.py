"""A scheduler without a process: its own answers, over a past that a test tells."""

from datetime import datetime
from typing import Any

from services.scheduler.answers import Answers
from services.scheduler.projection import Books
from services.scheduler.records import Trial
from shared.contracts.config import Config
from shared.contracts.scheduler.queries import (
    GetBotPerformance,
    GetRecommendations,
    GetTypePerformance,
    GetWhatIf,
    ListPerformance,
)
from shared.kernel.codec import encode
from shared.kernel.messages import Query
from tests.services.scheduler.history import History
from tests.support.scenario import NOON

SchedulerQuery = GetRecommendations | GetBotPerformance | GetTypePerformance | ListPerformance | GetWhatIf


class ToldScheduler:
    """`history` is what it knows, `trials` what it can be asked about."""

    def __init__(self) -> None:
        self.history = History()
        self.trials: list[Trial] = []

    async def answer(self, query: Query[Any]) -> Any:
        books: Books = self.history.books()
        answers = Answers(books, self, config=Config, now=_noon, seen=_seen)  # type: ignore[arg-type]
        match query:
            case GetRecommendations():
                return await answers.get_recommendations(query)
            case GetBotPerformance():
                return await answers.get_bot_performance(query)
            case GetTypePerformance():
                return await answers.get_type_performance(query)
            case ListPerformance():
                return await answers.list_performance(query)
            case _:
                assert isinstance(query, GetWhatIf), query
                return await answers.get_what_if(query)

    async def read(self, _sql: str, _values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """As its table would."""
        return [(encode(trial),) for trial in self.trials]


def _noon() -> datetime:
    return NOON


async def _seen(_sequence: int) -> None:
    """It is never behind."""
