"""How a command ends, and how an error is told: what happened, why, what to type next."""

import sys
from enum import IntEnum
from typing import IO, Any

import click


class Exit(IntEnum):
    """The exit codes, as `hive --help` documents them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAVAILABLE = 5
    STILL_RUNNING = 6


class Failure(click.ClickException):
    """An end that is not success. `code` is for programs; `problem` is the API's own document."""

    def __init__(
        self,
        what: str,
        *,
        exit_code: Exit,
        code: str,
        why: str = "",
        todo: str = "",
        problem: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.code = code
        self.problem = problem
        self.exit_code = exit_code  # type: ignore[misc] # click reads it from the instance
        self.as_json = False

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        body: dict[str, Any] = {
            "error": self.what,
            "code": self.code,
            "why": self.why,
            "next": self.todo,
            "exit_code": int(self.exit_code),
        }
        return body if self.problem is None else {**body, "problem": self.problem}

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it on standard error: three lines for people, one document for programs."""
        out = sys.stderr if file is None else file
        if self.as_json:
            import msgspec  # noqa: PLC0415 - only when something is shown

            click.echo(msgspec.json.encode(self.document()).decode(), file=out, color=self.show_color)
            return
        click.echo(
            f"{click.style('error:', fg='red', bold=True)} {self.what}", file=out, color=self.show_color
        )
        if self.why:
            click.echo(f"  why:  {self.why}", file=out, color=self.show_color)
        if self.todo:
            click.echo(f"  next: {self.todo}", file=out, color=self.show_color)
