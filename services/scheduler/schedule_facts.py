"""Everything that a schedule's subject stores."""

from typing import Final

from shared.contracts.scheduler.schedules import ScheduleFact
from shared.kernel.codec import Codec

ScheduleEvent = ScheduleFact
SCHEDULE_CODEC: Final[Codec[ScheduleEvent]] = Codec(ScheduleEvent)
SUBMITTER: Final = "schedule:"
"""Before the name of a schedule: who submitted its tasks."""
