"""Everything our subjects store, and the facts of others that we hear."""

from typing import Final

from shared.contracts.orchestrator.facts import (
    AttemptFailed,
    AttemptLost,
    BotCameUp,
    BotDied,
    BotHeardAgain,
    BotLaunched,
    BotLaunchFailed,
    BotRestarted,
    BotRetired,
    BotStopped,
    BotStopRequested,
    BotWentSilent,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskSubmitted,
)
from shared.contracts.scheduler.facts import PerformanceReset
from shared.kernel.codec import Codec

PerformanceEvent = PerformanceReset
TaskHeard = (
    TaskSubmitted
    | TaskAssigned
    | TaskCompleted
    | AttemptFailed
    | AttemptLost
    | TaskFailed
    | TaskCancelled
    | TaskExpired
)
BotHeard = (
    BotLaunched
    | BotCameUp
    | BotWentSilent
    | BotHeardAgain
    | BotDied
    | BotRestarted
    | BotLaunchFailed
    | BotStopRequested
    | BotStopped
    | BotRetired
    | CircuitOpened
    | CircuitHalfOpened
    | CircuitClosed
)

PERFORMANCE_CODEC: Final[Codec[PerformanceEvent]] = Codec(PerformanceEvent)
TASKS_HEARD: Final[Codec[TaskHeard]] = Codec(TaskHeard)
BOTS_HEARD: Final[Codec[BotHeard]] = Codec(BotHeard)
