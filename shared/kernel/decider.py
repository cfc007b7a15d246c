"""The shape of every decision, and the fold that rebuilds a state from its past."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Generic, TypeVar

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


@dataclass(frozen=True)
class Decider(Generic[S, C, E]):
    """Where an aggregate begins, how facts change it, and how a command becomes facts.

    `evolve(state, fact, sequence, at)` copies; it never checks.
    `decide(state, command, at)` returns facts, `[]` for "already so", or raises Rejected.
    """

    initial: S
    evolve: Callable[[S, E, int, datetime], S]
    decide: Callable[[S, C, datetime], list[E]]

    def fold(self, state: S, facts: Iterable[E], sequence: int, at: datetime) -> S:
        """The state after one commit of `facts`, stored at `sequence`."""
        return reduce(lambda so_far, fact: self.evolve(so_far, fact, sequence, at), facts, state)
