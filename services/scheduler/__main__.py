"""Runs the scheduler: `python -m services.scheduler`."""

from typing import Any

from services.scheduler.answers import Answers
from services.scheduler.decider import PERFORMANCE
from services.scheduler.facts import BOTS_HEARD, PERFORMANCE_CODEC, TASKS_HEARD
from services.scheduler.projection import Books
from services.scheduler.schedules import schedules
from services.scheduler.service import Scheduler
from services.scheduler.tables import ALIVE, KNOWN, SCHEMA, VERSION, Rows
from shared.contracts.scheduler.commands import PerformanceRequest
from shared.contracts.scheduler.queries import (
    GetBotPerformance,
    GetRecommendations,
    GetTypePerformance,
    GetWhatIf,
    ListPerformance,
)
from shared.kernel.codec import Codec
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.process import run
from shared.runtime.views import Statement


def assemble(runtime: Runtime) -> Assembly:
    """Where the parts meet."""
    resets = runtime.handler(PERFORMANCE, "performance", PERFORMANCE_CODEC)
    heard: dict[str, Codec[Any]] = {
        "task": TASKS_HEARD,
        "bot": BOTS_HEARD,
        "performance": PERFORMANCE_CODEC,
    }
    changes = Rows(runtime.config)
    table = runtime.table(
        "performance",
        version=VERSION,
        schema=SCHEMA,
        codecs=heard,
        rows=lambda batch, read: [Statement(sql, values) for sql, values in changes(batch, read)],
        forget=changes.forget,
    )
    books = Books(runtime.config)
    answers = Answers(books, table, config=runtime.config, now=runtime.now, seen=runtime.seen)
    scheduler = Scheduler(books, answers, runtime.publisher, owned=runtime.owned)
    live = Live(table=table, alive=ALIVE, totals=KNOWN, begun=scheduler.begun)
    view = runtime.follow("opinions", heard, scheduler.followed, live=live)
    runtime.connection.on_reconnect(scheduler.on_reconnect)
    times = schedules(runtime)

    async def todo(owned: frozenset[int]) -> None:
        for each in (scheduler.todo, times.todo):
            if each is not None:
                await each(owned)

    return Assembly(
        commands=[Route(PerformanceRequest, resets), *times.commands],
        queries=[
            runtime.answer(GetRecommendations, answers.get_recommendations),
            runtime.answer(GetBotPerformance, answers.get_bot_performance),
            runtime.answer(GetTypePerformance, answers.get_type_performance),
            runtime.answer(ListPerformance, answers.list_performance),
            runtime.answer(GetWhatIf, answers.get_what_if),
            *times.queries,
        ],
        views=[view, *times.views],
        tables=[table, *times.tables],
        todo=todo,
        background=[scheduler.run, *times.background],
    )


def main() -> None:
    """The process' entry."""
    run("scheduler", assemble)


if __name__ == "__main__":
    main()
