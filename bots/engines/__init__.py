"""Engines: what does a task's work. One file each; all pass tests/bots/test_engines.py.

An engine is told to stop by cancelling its `run`: it must then end what it started and let the cancellation
through, within half a second.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.contracts.orchestrator.commands import End
from shared.contracts.orchestrator.facts import Output
from shared.contracts.orchestrator.protocol import Assignment


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt: the task as assigned, where to do it, and what was given along with it.

    `deadline` is when `run` is cancelled, on the monotonic clock.
    """

    task: Assignment
    workspace: Path
    input: str | None
    deadline: float

    @property
    def text(self) -> str:
        """All of the task's words: its content, then its input."""
        return self.task.content if self.input is None else f"{self.task.content}\n\n{self.input}"


class Emit(Protocol):
    """Where an engine's output goes while it works."""

    def write(self, text: str, channel: str = "out") -> None:
        """A piece of output, on `out` or `err`: shown live, and kept up to OUTPUT_BYTES_MAX."""
        ...

    def progress(self, share: float) -> None:
        """How much is done, from 0 to 1."""
        ...

    def output(self, *, exit_code: int | None = None) -> Output:
        """Everything written so far, as the task's output."""
        ...


class Engine(Protocol):
    """Does one attempt at a time for each call; many may run at once."""

    async def run(self, work: Work, out: Emit) -> End:
        """Work until done, not to be done, or cancelled."""
        ...
