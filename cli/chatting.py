"""What holds a chat together: the dialogue, the wire that brings frames, and the face that shows them."""

import threading
from typing import Final, Protocol, assert_never

import click

from cli import frames
from cli.dialogue import Dialogue, Failed, Piece, Said, Show
from cli.failure import Exit
from cli.wire import Wire
from shared.runtime.ids import new_id

AT_ONCE_MAX: Final = 8  # messages that wait for an answer before another line is taken from a pipe
UNANSWERABLE: Final = frozenset({"failed", "expired", "read"})


class Face(Protocol):
    """How a chat looks; called from the wire's thread, one call after another."""

    def said(self, said: Said, *, ours: bool) -> None:
        """A message."""
        ...

    def piece(self, piece: Piece) -> None:
        """More of an answer that is being written."""
        ...

    def failed(self, failed: Failed) -> None:
        """A message of ours gets no answer."""
        ...

    def connected(self, *, now: bool) -> None:
        """The connection was lost, or is there again."""
        ...


class Chat:
    """One conversation. `worst` is what its exit code should say of it."""

    def __init__(self, face: Face, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.worst = Exit.OK
        self.over = threading.Event()
        self._face = face
        self.wire: Wire | None = None
        self._lost = False
        self._heard = threading.Condition()

    def run(self, wire: Wire, context: click.Context) -> None:
        """Hear, until the wire is closed or all is over: in a thread of its own, in the command's colours."""
        try:
            with context.scope(cleanup=False):
                wire.run()
        finally:
            with self._heard:
                self.over.set()
                self._heard.notify_all()

    def say(self, text: str) -> None:
        """Send it now, or when there is a connection again."""
        ref = new_id()
        with self._heard:
            self.dialogue.unsent[ref] = text
        self._send(ref)

    def until_open(self, at_most: int, within_s: float | None = None) -> bool:
        """Wait until not more than so many of ours wait for something; False when the time is over."""
        with self._heard:
            return self._heard.wait_for(lambda: self.dialogue.open <= at_most or self.over.is_set(), within_s)

    # What the wire tells.

    def hear(self, frame: frames.Frame) -> None:
        """A frame came."""
        with self._heard:
            show = self.dialogue.hear(frame)
            later = dict(self.dialogue.wait_s)
            self.dialogue.wait_s.clear()
            if show is not None:
                self._show(show)
            if isinstance(frame, frames.Text) and frame.message.sender != self.dialogue.me and self.wire:
                self.wire.send(frames.ack(frame.sequence))
            self._heard.notify_all()
        for ref, after_s in later.items():
            again = threading.Timer(after_s, self._send, (ref,))
            again.daemon = True
            again.start()

    def lost(self) -> None:
        """The connection broke, and did not come back at once."""
        with self._heard:
            if not self._lost:
                self._lost = True
                self._face.connected(now=False)

    def opened(self) -> None:
        """There is a connection again; what was not accepted is said again, and counts once."""
        with self._heard:
            if self._lost:
                self._lost = False
                self._face.connected(now=True)
            waiting = list(self.dialogue.unsent)
        for ref in waiting:
            self._send(ref)

    def _send(self, ref: str) -> None:
        text = self.dialogue.unsent.get(ref)
        if text is not None and self.wire is not None:
            self.wire.send(frames.say(ref, text))

    def _show(self, show: Show) -> None:
        match show:
            case Said():
                if show.message.error is not None:
                    self.worst = self.worst or Exit.FAILED
                self._face.said(show, ours=show.message.sender == self.dialogue.me)
            case Piece():
                self._face.piece(show)
            case Failed():
                self.worst = self.worst or (Exit.FAILED if show.code in UNANSWERABLE else Exit.REFUSED)
                self._face.failed(show)
            case _:
                assert_never(show)
