"""One aggregate seen from two sides: our own commits at once, and the log's in their order."""

from typing import Any, Generic, TypeVar

from shared.kernel.decider import Decider
from shared.kernel.messages import Recorded

S = TypeVar("S")
E = TypeVar("E")


class Lineage(Generic[S, E]):
    """A state that runs ahead of the log by what this process itself has written.

    An own commit is applied when it is made, and comes again when the log is followed. If another process
    wrote in between, the log tells, and what was applied ahead is applied again on top of it.
    """

    __slots__ = ("_ahead", "_base", "_decider", "_followed", "_told", "state", "version")

    def __init__(self, decider: Decider[S, Any, E]) -> None:
        self._decider = decider
        self._base = decider.initial
        self._followed = 0
        self._ahead: list[Recorded[E]] = []
        self._told: list[Recorded[E]] = []  # told since, and not yet folded into the base
        self.state = decider.initial
        self.version = 0

    @property
    def settled(self) -> bool:
        """Whether the log has told all that we wrote ourselves."""
        return not self._ahead

    def own(self, commit: Recorded[E]) -> bool:
        """A commit of this process, ahead of the log; False if it is known already."""
        if commit.sequence <= self.version:
            return False
        self._ahead.append(commit)
        self.state = self._fold(self.state, commit)
        self.version = commit.sequence
        return True

    def followed(self, commit: Recorded[E]) -> bool:
        """A commit as the log tells it; False if that changes nothing."""
        if commit.sequence <= self._followed:
            return False
        self._followed = commit.sequence
        if self._ahead and self._ahead[0].sequence == commit.sequence:
            self._told.append(self._ahead.pop(0))
            if not self._ahead:
                self._base = self.state
                self._told.clear()
            return False
        self._ahead = [own for own in self._ahead if own.sequence > commit.sequence]
        for told in (*self._told, commit):
            self._base = self._fold(self._base, told)
        self._told.clear()
        self.state = self._base
        for own in self._ahead:
            self.state = self._fold(self.state, own)
        self.version = max(self.version, commit.sequence)
        return True

    def _fold(self, state: S, commit: Recorded[E]) -> S:
        return self._decider.fold(state, commit.facts, commit.sequence, commit.at)
