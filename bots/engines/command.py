"""Runs one fixed program for every task: how any agent with a command line joins.

The task's words are its standard input, or stand where an argument says `{input}`.
"""

from bots.engines import Emit, Work
from bots.engines.program import Program, Programs
from shared.contracts.orchestrator.commands import End, Undone
from shared.contracts.orchestrator.facts import TaskError

PLACE = "{input}"


class Command:
    """The engine `command`; `argv` is of the bot's spec."""

    def __init__(self, argv: tuple[str, ...], programs: Programs) -> None:
        assert argv, "the host refuses a command bot without argv"
        self._argv = argv
        self._programs = programs

    async def run(self, work: Work, out: Emit) -> End:
        """Put the words in their place and run it."""
        if not any(PLACE in word for word in self._argv):
            return await self._programs.run(Program(argv=self._argv, stdin=work.text), work, out)
        if "\0" in work.text:
            error = TaskError(code="content_not_an_argument", detail="content: holds a zero byte")
            return Undone(error=error, retryable=False)
        argv = tuple(word.replace(PLACE, work.text) for word in self._argv)
        return await self._programs.run(Program(argv=argv, stdin=None), work, out)
