"""Which bots there are, what they do, and whether they may be given something now. A fold of their facts."""

from typing import assert_never

import msgspec

from services.scheduler.facts import BotHeard
from shared.contracts.orchestrator.facts import (
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
)
from shared.contracts.words import TaskType

_change = msgspec.structs.replace


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bot that is not retired. Empty `types`: all. `away`: why it can be given nothing; empty if it can.

    `circuit`: what is known to be wrong with it, empty if nothing is.
    """

    types: tuple[TaskType, ...] = ()
    away: str = "is starting"
    circuit: str = ""

    def why_not(self, kind: TaskType) -> str | None:
        """Why it is not given a task of this type now; None if it may be."""
        if self.types and kind not in self.types:
            return f"does {', '.join(self.types)} only"
        return self.away or self.circuit or None


def fold_member(member: Member | None, fact: BotHeard) -> Member | None:
    """The bot after one of its facts; None when it is gone for good."""
    if isinstance(fact, BotLaunched):
        return Member(types=fact.spec.types)
    if member is None:
        return None
    match fact:
        case BotCameUp() | BotHeardAgain():
            return _change(member, away="")
        case BotWentSilent():
            return _change(member, away="is silent")
        case BotDied():
            return _change(member, away="died")
        case BotRestarted():
            return _change(member, away="is starting")
        case BotLaunchFailed():
            return _change(member, away="cannot be started")
        case BotStopRequested():
            return _change(member, away="is stopping")
        case BotStopped():
            return _change(member, away="is stopped")
        case BotRetired():
            return None
        case CircuitOpened():
            return _change(member, circuit=f"has an open circuit: {fact.reason}")
        case CircuitHalfOpened() | CircuitClosed():
            return _change(member, circuit="")
        case _:
            assert_never(fact)
