"""The scheduler's opinion of bots, as it stands in the bucket `routing`: one value for each task type.

The key is the type. Who watches it keeps the last value while the scheduler is away; a bot that is not named
is one that nobody has an opinion of.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from shared.contracts.words import BotId, TaskType

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one bot at one type of task.

    `successes` and `failures` are discounted counts: parameters of a Beta distribution, less its prior of 1
    and 1; `speed` is 0 (slowest) to 1 (fastest) relative to the type's own distribution; `cost_usd` is a
    moving average for one task; `score` is what the policy makes of it all, 0 to 1, the higher the better.
    `samples` are all that were ever counted; below the least number that is trusted the score is the prior's.
    """

    samples: int
    successes: float
    failures: float
    success: Share
    speed: Share
    cost_usd: float
    score: Share
    confidence: Share
    trend: str = "steady"  # improving, declining, steady
    trusted: bool = False


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every bot that is known to have done tasks of a type. `sequence`: of the newest fact it has counted."""

    type: TaskType
    at: datetime
    sequence: int
    policy: str
    bots: dict[BotId, Standing]
