"""What only the scheduler asks of a schedule: nobody may send these. Too late, each means nothing."""

from typing import ClassVar, Final

from shared.contracts.scheduler.schedules import ScheduleCommand, ScheduleName, ScheduleRequest
from shared.contracts.words import TaskId

_NOBODY: Final[frozenset[str]] = frozenset()


class Tick(ScheduleCommand, frozen=True, kw_only=True):
    """Decide what is due. `running`: a task of an earlier tick has not ended; `newest`: the last of all."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    name: ScheduleName
    running: bool = False
    newest: TaskId | None = None


class NoteRefused(ScheduleCommand, frozen=True, kw_only=True):
    """The task of a tick was not accepted."""

    senders: ClassVar[frozenset[str]] = _NOBODY

    name: ScheduleName
    task_id: TaskId
    code: str
    detail: str


ScheduleWish = ScheduleRequest | Tick | NoteRefused
