"""Runs a task's content as one program with its arguments: no shell reads it, and only allowed ones run."""

import shlex
from collections.abc import Collection

from bots.engines import Emit, Work
from bots.engines.program import Program, Programs
from shared.contracts.orchestrator.commands import End, Undone
from shared.contracts.orchestrator.facts import TaskError


class Shell:
    """The engine `shell`; `allow` are the programs it may run, by name."""

    def __init__(self, allow: Collection[str], programs: Programs) -> None:
        self._allow = frozenset(allow)
        self._programs = programs

    async def run(self, work: Work, out: Emit) -> End:
        """Split, check, run; the task's input is the program's standard input."""
        try:
            argv = shlex.split(work.task.content)
        except ValueError as error:
            return _refused("content_not_splittable", f"content: {error}; close every quote")
        if not argv:
            return _refused("no_program", "content: names no program; write one, such as `git status`")
        if any("\0" in word for word in argv):
            return _refused("content_not_splittable", "content: holds a zero byte, which no program takes")
        if argv[0] not in self._allow:
            return _refused(
                "program_not_allowed",
                f"{argv[0]!r} is not among the allowed programs ({' '.join(sorted(self._allow))}); "
                f"allow it for this bot with `hive bots launch … --allow {shlex.quote(argv[0])}`, "
                "or for all with HIVE_SHELL_ALLOW at `hive up`",
            )
        return await self._programs.run(Program(argv=tuple(argv), stdin=work.input), work, out)


def _refused(code: str, detail: str) -> Undone:
    return Undone(error=TaskError(code=code, detail=detail), retryable=False)
