"""given(facts).when(command).then(facts): a decision told as a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Answered(Generic[E]):
    """What was decided."""

    answer: list[E] | Rejected

    def then(self, *expected: E) -> None:
        assert list(expected) == self.answer

    def then_nothing(self) -> None:
        assert self.answer == []

    def then_rejected(self, code: str) -> None:
        assert isinstance(self.answer, Rejected), self.answer
        assert code == self.answer.code

    def then_kinds(self, *kinds: type) -> list[E]:
        """Facts of these kinds; for rules that are not about the fields."""
        assert isinstance(self.answer, list), self.answer
        assert list(kinds) == [type(fact) for fact in self.answer]
        return self.answer


@dataclass(frozen=True)
class Given(Generic[S, C, E]):
    """A past: the commits so far, the first stored at sequence 1."""

    decider: Decider[S, C, E]
    commits: Sequence[tuple[Sequence[E], datetime]]

    @property
    def state(self) -> S:
        state = self.decider.initial
        for sequence, (facts, at) in enumerate(self.commits, 1):
            state = self.decider.fold(state, facts, sequence, at)
        return state

    def when(self, command: C, *, at: datetime = NOON) -> Answered[E]:
        try:
            return Answered(self.decider.decide(self.state, command, at))
        except Rejected as rejected:
            return Answered(rejected)


def given(decider: Decider[S, C, E], *commits: E | tuple[E, ...], at: datetime = NOON) -> Given[S, C, E]:
    """One commit for each argument: a fact, or a tuple of facts that were decided together."""
    return Given(decider, [(each if isinstance(each, tuple) else (each,), at) for each in commits])
