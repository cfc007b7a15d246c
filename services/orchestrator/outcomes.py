"""How a bot's last attempts ended, and what that means for its circuit. Pure; kept in memory and in a row.

Which ends count says shared/contracts/orchestrator/blame.py. Attempts of one task count once, the last: a
task that fails wherever it runs is no proof. So do attempts that one death or silence took together.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, assert_never

import msgspec

from services.orchestrator.decider.circuit import Circuit, Closed, HalfOpen, Open
from services.orchestrator.facts import TaskEvent
from shared.contracts.orchestrator.blame import GONE, SUCCEEDED, verdict
from shared.contracts.orchestrator.facts import AttemptFailed, AttemptLost, TaskCompleted
from shared.contracts.words import BotId, TaskId

WINDOW: Final = 20  # attempts that are looked at
IN_A_ROW: Final = 5
OF_AT_LEAST: Final = 10
SHARE: Final = 0.5
SUCCESSES_TO_CLOSE: Final = 3


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """The end of an attempt that says something about its bot; `sequence` of the commit that tells it."""

    sequence: int
    token: int
    task_id: TaskId
    how: str


Outcomes = tuple[Outcome, ...]


class Trip(NamedTuple):
    """The circuit is to open: so many of so many attempts failed."""

    reason: str
    failures: int
    attempts: int


class Mend(NamedTuple):
    """The circuit is to close."""

    reason: str


def outcome_of(fact: TaskEvent, sequence: int) -> tuple[BotId, Outcome] | None:
    """Whom a fact tells something about, and what; None if it tells nothing."""
    if not isinstance(fact, TaskCompleted | AttemptFailed | AttemptLost):
        return None
    how = verdict(fact)
    return None if how is None else (fact.bot_id, Outcome(sequence, fact.token, fact.task_id, how))


def remember(known: Outcomes, news: Outcome) -> Outcomes:
    """The last ones, each once, whichever way and however often they came."""
    for each in known:
        if each.task_id == news.task_id and each.sequence >= news.sequence:
            return known
        together = each.token < news.sequence and news.token < each.sequence
        if together and each.how == news.how == GONE and each.task_id != news.task_id:
            return known
    others = [each for each in known if each.task_id != news.task_id]
    return tuple(sorted([*others, news], key=lambda each: each.sequence)[-WINDOW:])


def judge(circuit: Circuit, outcomes: Sequence[Outcome]) -> Trip | Mend | None:
    """What is to become of a circuit, by the attempts that began since it last changed."""
    failures = [each.how != SUCCEEDED for each in outcomes if each.token > circuit.since]
    match circuit:
        case Open():
            return None
        case Closed():
            return _too_many(failures)
        case HalfOpen() if any(failures):
            return Trip("the trial failed", sum(failures), len(failures))
        case HalfOpen() if len(failures) >= SUCCESSES_TO_CLOSE:
            return Mend(f"{len(failures)} trials succeeded")
        case HalfOpen():
            return None
        case _:
            assert_never(circuit)


def _too_many(failures: list[bool]) -> Trip | None:
    count, failed = len(failures), sum(failures)
    row = next((number for number, bad in enumerate(reversed(failures)) if not bad), count)
    if row >= IN_A_ROW:
        return Trip(f"{row} failures in a row", failed, count)
    if count >= OF_AT_LEAST and failed >= SHARE * count:
        return Trip(f"{failed} of its last {count} tasks failed", failed, count)
    return None
