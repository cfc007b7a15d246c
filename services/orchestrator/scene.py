"""What is looked at to see what is outstanding, and when."""

from dataclasses import dataclass, field
from datetime import datetime

from services.orchestrator.board import Board
from services.orchestrator.hosts import Hosts
from services.orchestrator.liveness import Liveness
from services.orchestrator.placement import Placement
from services.orchestrator.queues import Queues
from shared.contracts.config import Config


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on both clocks, and the configuration in force."""

    utc: datetime
    mono: float
    config: Config


@dataclass(frozen=True)
class Scene:
    """Everything known at the moment."""

    board: Board
    liveness: Liveness
    hosts: Hosts
    placement: Placement
    queues: Queues = field(default_factory=Queues)
