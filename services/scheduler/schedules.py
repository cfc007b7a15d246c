"""Where the parts of schedules meet."""

from typing import Any

from services.scheduler.decider.schedule import SCHEDULE
from services.scheduler.decider.schedule_state import State
from services.scheduler.facts import TASKS_HEARD
from services.scheduler.schedule_answers import ScheduleAnswers, recall
from services.scheduler.schedule_board import Board
from services.scheduler.schedule_facts import SCHEDULE_CODEC
from services.scheduler.schedule_tables import SCHEMA, SELECT_ALIVE, SELECT_BEGIN, VERSION, rows
from services.scheduler.ticking import Performer, Ticking, measured
from shared.contracts.scheduler.schedules import (
    GetSchedule,
    ListReceipts,
    ListSchedules,
    ScheduleRequest,
)
from shared.kernel.codec import Codec
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.handler import Known
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.views import Statement


def schedules(runtime: Runtime) -> Assembly:
    """The schedules' share of the service."""
    board = Board()

    def known(name: str) -> Known[State] | None:
        return recall(board, name)

    handler = runtime.handler(SCHEDULE, "schedule", SCHEDULE_CODEC, recall=known, on_commit=measured)
    heard: dict[str, Codec[Any]] = {"schedule": SCHEDULE_CODEC, "task": TASKS_HEARD}
    table = runtime.table(
        "schedules",
        version=VERSION,
        schema=SCHEMA,
        codecs=heard,
        rows=lambda batch, read: [Statement(sql, values) for sql, values in rows(batch, read)],
    )
    answers = ScheduleAnswers(board, table, now=runtime.now, seen=runtime.seen)
    ticking = Ticking(board, now=runtime.now, owned=runtime.owned)
    performer = Performer(board, handler, runtime.send)
    live = Live(table=table, alive=SELECT_ALIVE, totals=SELECT_BEGIN, begun=board.begin)
    view = runtime.follow("schedules", heard, ticking.followed, live=live)
    return Assembly(
        commands=[Route(ScheduleRequest, handler)],
        queries=[
            runtime.answer(GetSchedule, answers.get_schedule),
            runtime.answer(ListSchedules, answers.list_schedules),
            runtime.answer(ListReceipts, answers.list_receipts),
        ],
        views=[view],
        tables=[table],
        todo=ticking.todo,
        background=[lambda: ticking.run(performer.perform)],
    )
