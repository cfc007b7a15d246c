"""How a chat looks: in a terminal, through a pipe, to a program."""

import sys
from typing import Final

import click

from cli import screen
from cli.dialogue import Failed, Piece, Said
from shared.contracts.messenger.queries import MessageDoc

PROMPT: Final = "> "
ERASE: Final = "\r\x1b[2K"


class Terminal:
    """Above the line that is typed stands what was said; an answer appears line by line as it is written."""

    def __init__(self, bot: str, *, plain: bool) -> None:
        self._bot = bot
        self._plain = plain
        self._typing = False
        self._begun: set[str] = set()
        self._half: dict[str, str] = {}

    def ask(self) -> str:
        """A line that a person types; EOFError and KeyboardInterrupt as `input` has them."""
        self._typing = True
        try:
            return input(PROMPT)
        finally:
            self._typing = False

    def said(self, said: Said, *, ours: bool) -> None:
        """A message, or the rest of one that was written before our eyes."""
        message, turn = said.message, said.message.in_reply_to or ""
        half = self._half.pop(turn, "")
        if turn in self._begun:
            self._begun.discard(turn)
            if message.content.startswith(said.shown.rstrip()) and message.error is None and said.shown:
                rest = (half + message.content[len(said.shown) :]).rstrip()
                if rest:
                    self._print(screen.safe(rest))
                return
        self._print(spoken("you" if ours else message.sender, message))

    def piece(self, piece: Piece) -> None:
        """The lines that are complete."""
        turn = piece.message_id
        whole, line_end, half = (self._half.get(turn, "") + piece.text).rpartition("\n")
        self._half[turn] = half
        if line_end:
            head = "" if turn in self._begun else f"{click.style(f'{self._bot}:', bold=True)}\n"
            self._print(head + screen.safe(whole))
            self._begun.add(turn)

    def failed(self, failed: Failed) -> None:
        """Said in red, and the chat goes on."""
        self._print(click.style(screen.safe(failed.what), fg="red"))

    def connected(self, *, now: bool) -> None:
        """Said each time."""
        self.note("connected again" if now else "the connection is lost; it comes back by itself")

    def note(self, text: str) -> None:
        """A word of our own."""
        self._print(click.style(text, dim=True))

    def _print(self, text: str) -> None:
        if not self._typing:
            click.echo(text)
        elif self._plain:
            click.echo(f"\n{text}\n{PROMPT}{_typed()}", nl=False)
        else:
            click.echo(f"{ERASE}{text}\n{PROMPT}{_typed()}", nl=False)


class Piped:
    """Only what the bot says goes to standard output."""

    def said(self, said: Said, *, ours: bool) -> None:
        """Its text; a refusal to answer is no output."""
        message = said.message
        if message.error is not None:
            click.echo(screen.safe(f"{message.sender} could not answer: {_error(message)}"), err=True)
        elif not ours:
            screen.text(message.content)

    def piece(self, piece: Piece) -> None:
        """All of it comes with the answer."""

    def failed(self, failed: Failed) -> None:
        """On standard error."""
        click.echo(screen.safe(failed.what), err=True)

    def connected(self, *, now: bool) -> None:
        """On standard error."""
        click.echo("connected again" if now else "the connection is lost; trying again", err=True)


class Json:
    """A document on a line for each thing that happens."""

    def said(self, said: Said, *, ours: bool) -> None:
        """A message of either side."""
        screen.line({"type": "text", "ours": ours, "message": said.message})

    def piece(self, piece: Piece) -> None:
        """More of an answer that is being written."""
        screen.line({"type": "live", "message_id": piece.message_id, "text": piece.text})

    def failed(self, failed: Failed) -> None:
        """A message of ours gets no answer."""
        screen.line({"type": "error", "code": failed.code, "detail": failed.what})

    def connected(self, *, now: bool) -> None:
        """The connection was lost, or is there again."""
        screen.line({"type": "connection", "connected": now})


def spoken(name: str, message: MessageDoc) -> str:
    """A message as a person reads it."""
    if message.error is not None:
        return click.style(screen.safe(f"{name} could not answer: {_error(message)}"), fg="red")
    return _named(name, screen.safe(message.content).rstrip())


def _named(name: str, text: str) -> str:
    said = click.style(f"{name}:", bold=True)
    return f"{said}\n{text}" if "\n" in text else f"{said} {text}"


def _error(message: MessageDoc) -> str:
    assert message.error is not None
    return f"{message.error.detail} ({message.error.code})"


def _typed() -> str:
    """What stands on the line already; without readline the terminal keeps it to itself."""
    module = sys.modules.get("readline")
    return "" if module is None else str(module.get_line_buffer())
