"""What health says of bots, as it stands in the bucket `health`: one value for each bot that it knows.

The names and fields here are stored and sent: add fields with a default, never rename one. Who watches the
bucket keeps the last value while health is away; of a bot without a value it has no opinion.
"""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """Degraded: given less. Critical: given nothing."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one bot is, and why."""

    level: Level
    reason: str = ""
