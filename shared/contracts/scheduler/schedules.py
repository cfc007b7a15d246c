"""Schedules: what they are, what can be asked about them, and what the scheduler tells of them."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, NewType

import msgspec

from shared.contracts.words import (
    ATTEMPTS_DEFAULT,
    ATTEMPTS_MAX,
    BACKOFF_FIRST,
    BACKOFF_MAX,
    CONTENT_CHARS_MAX,
    TASK_TIMEOUT_DEFAULT,
    TASK_TIMEOUT_MAX,
    BotId,
    Name,
    Page,
    Priority,
    SideEffects,
    TaskId,
    TaskType,
)
from shared.kernel.messages import Command, Fact, Query

ScheduleName = NewType("ScheduleName", str)

SCHEDULE_NAME_PATTERN: Final = r"^[A-Za-z0-9_-]{1,32}(?!\n)$"
"""Shorter than other names: the id of a task is made of it and of the time that it was due."""

EXPRESSION_CHARS_MAX: Final = 200
TIMEZONE_CHARS_MAX: Final = 64
JITTER_MAX: Final = timedelta(hours=1)
LATE_AFTER: Final = timedelta(seconds=1)  # a tick later than this says so
MISSED_AFTER: Final = timedelta(seconds=60)  # a tick later than this is one that was missed
MISSED_MAX: Final = 100  # missed ticks that are looked at one by one; older ones are summed up in one receipt
COUNTED_MAX: Final = 1_000  # of those that are summed up, so many are counted
NEXT_SHOWN: Final = 5
BACKOFF_LONGEST_S: Final = 86_400.0
JITTER_LONGEST_S: Final = JITTER_MAX.total_seconds()
TIMEOUT_LONGEST_S: Final = TASK_TIMEOUT_MAX.total_seconds()

_PEOPLE: Final = frozenset({"gateway"})


class CatchUp(StrEnum):
    """What becomes of ticks that were missed: none of them fires, the newest, or all (at most MISSED_MAX)."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick while the task of an earlier one has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


Seconds = Annotated[float, msgspec.Meta(gt=0, le=BACKOFF_LONGEST_S)]


class TaskRetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often and how soon a task is tried again."""

    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPTS_MAX)] = ATTEMPTS_DEFAULT
    backoff_first_s: Seconds = BACKOFF_FIRST.total_seconds()
    backoff_max_s: Seconds = BACKOFF_MAX.total_seconds()
    side_effects: SideEffects = SideEffects.IDEMPOTENT


class TaskTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The task that each tick submits. Without a type it is found from the text."""

    content: Annotated[str, msgspec.Meta(min_length=1, max_length=CONTENT_CHARS_MAX)]
    type: TaskType | None = None
    priority: Priority = Priority.P2
    bot: Annotated[BotId, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,50}(?!\n)$")] | None = None
    pool: Name | None = None
    engine: Name | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=TIMEOUT_LONGEST_S)] = (
        TASK_TIMEOUT_DEFAULT.total_seconds()
    )
    retry: TaskRetry = TaskRetry()


class SchedulePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When, and what.

    `expression`: five fields of cron, six with seconds before them, `@hourly` and its like, `@every 90s`, or
    `@at` and a time (RFC 3339). `jitter_s`: a tick fires up to so much after it is due, always the same for
    the same due time, and never after the next one is due.
    """

    expression: Annotated[str, msgspec.Meta(min_length=1, max_length=EXPRESSION_CHARS_MAX)]
    task: TaskTemplate
    timezone: Annotated[str, msgspec.Meta(min_length=1, max_length=TIMEZONE_CHARS_MAX)] = "UTC"
    jitter_s: Annotated[float, msgspec.Meta(ge=0, le=JITTER_LONGEST_S)] = 0.0
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW


def task_id_of(name: ScheduleName, due_at: datetime) -> TaskId:
    """The id of the task of one tick: the same whoever asks for it, and however often."""
    return TaskId(f"{name}-{due_at:%Y%m%dT%H%M%SZ}")


class ScheduleAdded(Fact, frozen=True, kw_only=True):
    """There is such a schedule. `owner` is the id of an access key."""

    name: ScheduleName
    plan: SchedulePlan
    owner: str
    enabled: bool = True


class ScheduleChanged(Fact, frozen=True, kw_only=True):
    """It is as `plan` says now; `changed` names the fields that differ. Other times begin at this commit."""

    name: ScheduleName
    plan: SchedulePlan
    changed: tuple[str, ...]


class SchedulePaused(Fact, frozen=True, kw_only=True):
    """It does not tick until it is resumed, and what it did not tick is never caught up."""

    name: ScheduleName


class ScheduleResumed(Fact, frozen=True, kw_only=True):
    """It ticks again, from this commit on."""

    name: ScheduleName


class ScheduleRemoved(Fact, frozen=True, kw_only=True):
    """It is gone; its receipts stay."""

    name: ScheduleName


class ScheduleTicked(Fact, frozen=True, kw_only=True):
    """What became of one due time. It fired, or it fired late: `task_id` is submitted. Or it was skipped.

    `manual`: somebody asked for it; `due_at` is when.
    """

    name: ScheduleName
    due_at: datetime
    outcome: Literal["fired", "late", "skipped"]
    reason: str = ""
    late_s: float = 0.0
    task_id: TaskId | None = None
    manual: bool = False


class ScheduleTickQueued(Fact, frozen=True, kw_only=True):
    """A due time waits for the end of the earlier task; what becomes of it is told by ScheduleTicked."""

    name: ScheduleName
    due_at: datetime


class ScheduleTicksMissed(Fact, frozen=True, kw_only=True):
    """The oldest of many missed ticks, in one: `count` of them, or more than that, none of them fired.

    The first was due at `first_due_at`, the last of them before `until`.
    """

    name: ScheduleName
    first_due_at: datetime
    until: datetime
    count: int
    more: bool
    reason: str


class ScheduleTaskRefused(Fact, frozen=True, kw_only=True):
    """The tick fired, but its task was not accepted."""

    name: ScheduleName
    task_id: TaskId
    code: str
    detail: str


ScheduleFact = (
    ScheduleAdded
    | ScheduleChanged
    | SchedulePaused
    | ScheduleResumed
    | ScheduleRemoved
    | ScheduleTicked
    | ScheduleTickQueued
    | ScheduleTicksMissed
    | ScheduleTaskRefused
)


class ScheduleCommand(Command, frozen=True, kw_only=True):
    """About one schedule."""

    service: ClassVar[str] = "scheduler"
    aggregate: ClassVar[str] = "schedule"
    key_field: ClassVar[str] = "name"
    senders: ClassVar[frozenset[str]] = _PEOPLE


class AddSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """There shall be such a schedule. Refused: `bad_expression`, `bad_timezone`, `schedule_exists`."""

    name: ScheduleName
    plan: SchedulePlan
    owner: str
    enabled: bool = True


class ChangeSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """It shall be like this. `enabled` None: paused or not as before. Refused: `schedule_not_found`, …."""

    name: ScheduleName
    plan: SchedulePlan
    enabled: bool | None = None


class PauseSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """It shall not tick for now."""

    name: ScheduleName


class ResumeSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """It shall tick again."""

    name: ScheduleName


class RemoveSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """It shall be gone."""

    name: ScheduleName


class RunSchedule(ScheduleCommand, frozen=True, kw_only=True):
    """Submit its task now, as `task_id`, whatever its times, its overlap policy, and paused or not."""

    name: ScheduleName
    task_id: TaskId


ScheduleRequest = AddSchedule | ChangeSchedule | PauseSchedule | ResumeSchedule | RemoveSchedule | RunSchedule


class ScheduleDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is shown. `next`: its next due times, without jitter; none when paused or finished.

    `running`: tasks of its ticks that have not ended; `waiting`: the due time that waits for them.
    """

    name: ScheduleName
    version: int
    state: Literal["active", "paused", "finished"]
    expression: str
    timezone: str
    task: TaskTemplate
    jitter_s: float
    catch_up: CatchUp
    overlap: Overlap
    owner: str
    created_at: datetime
    changed_at: datetime
    next: tuple[datetime, ...]
    fired: int
    late: int
    skipped: int
    last_due_at: datetime | None = None
    waiting: datetime | None = None
    running: tuple[TaskId, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one due time, or, where `count` is above 1, of several that were missed.

    `decided_at` is when that was decided. `outcome`: fired, late, skipped, queued (it waits), refused (its
    task was not accepted).
    """

    name: ScheduleName
    sequence: int
    due_at: datetime
    decided_at: datetime
    outcome: Literal["fired", "late", "skipped", "queued", "refused"]
    reason: str = ""
    late_s: float = 0.0
    task_id: TaskId | None = None
    manual: bool = False
    count: int = 1
    first_due_at: datetime | None = None


class GetSchedule(Query[ScheduleDoc], frozen=True, kw_only=True):
    """One schedule."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = ScheduleDoc

    name: ScheduleName
    at_least: int = 0


class ListSchedules(Query[Page[ScheduleDoc]], frozen=True, kw_only=True):
    """Schedules by name."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = Page[ScheduleDoc]

    cursor: str | None = None
    limit: int = 50
    at_least: int = 0


class ListReceipts(Query[Page[Receipt]], frozen=True, kw_only=True):
    """What became of a schedule's ticks, newest first; of a removed one, too."""

    service: ClassVar[str] = "scheduler"
    answer: ClassVar[object] = Page[Receipt]

    name: ScheduleName
    cursor: str | None = None
    limit: int = 50
    at_least: int = 0
