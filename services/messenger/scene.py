"""What is looked at to see what is outstanding, and when."""

from dataclasses import dataclass, field
from datetime import datetime

from services.messenger.board import Board
from services.messenger.greetings import Greetings
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

    board: Board = field(default_factory=Board)
    greetings: Greetings = field(default_factory=Greetings)
