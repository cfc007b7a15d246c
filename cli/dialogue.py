"""A conversation with a bot as it stands on our side: what we said, what is not answered, what was seen.

No network and no terminal: frames go in, and what a person should see comes out.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, assert_never

from cli.frames import Accepted, Frame, Gap, Hello, Live, State, Text, Wrong
from shared.contracts.messenger.queries import MessageDoc

LOST: Final = frozenset({"failed", "expired"})


class Said(NamedTuple):
    """A message, and what of it was shown already while it was written."""

    message: MessageDoc
    shown: str


class Piece(NamedTuple):
    """More of what the bot writes."""

    message_id: str
    text: str


class Failed(NamedTuple):
    """A message of ours that gets no answer."""

    what: str
    code: str


Show = Said | Piece | Failed


@dataclass
class Dialogue:
    """`unsent`, by reference: typed, not accepted for good yet; `unanswered`: accepted, with its sequence."""

    me: str = ""
    seen: int = 0
    unsent: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    wait_s: dict[str, int] = field(default_factory=dict)
    _ours: set[str] = field(default_factory=set)
    _live: dict[str, "_Written"] = field(default_factory=dict)

    @property
    def after(self) -> int:
        """Where another connection goes on: so early that it hears of all that is not answered."""
        return min([self.seen, *(sequence - 1 for sequence in self.unanswered.values())])

    @property
    def open(self) -> int:
        """How many of ours wait for something."""
        return len(self.unsent) + len(self.unanswered)

    def hear(self, frame: Frame) -> Show | None:
        """What there is to show."""
        match frame:
            case Hello():
                self.me = frame.party
                return None
            case Text():
                return self._text(frame)
            case Accepted():
                if frame.sequence is not None:  # else it is stored only, and may be refused yet
                    self.unsent.pop(frame.ref, None)
                    self._mine(frame.id, frame.sequence)
                return None
            case Live():
                return self._piece(frame)
            case Gap():
                self._live.setdefault(frame.message_id, _Written()).whole = False
                return None
            case State():
                return self._ended(frame.message_id, frame.state, frame.reason)
            case Wrong():
                return self._wrong(frame)
            case _:
                assert_never(frame)

    def _text(self, frame: Text) -> Show | None:
        message = frame.message
        again = frame.sequence <= self.seen
        self.seen = max(self.seen, frame.sequence)
        if message.sender == self.me:
            return self._own(frame, again=again)
        written = _Written()
        if message.in_reply_to is not None:
            self.unanswered.pop(message.in_reply_to, None)
            written = self._live.pop(message.in_reply_to, written)
        return None if again else Said(message, written.text if written.whole else "")

    def _own(self, frame: Text, *, again: bool) -> Show | None:
        message = frame.message
        if message.content in self.unsent.values() and not again:  # it overtook the word that it is accepted
            self._mine(message.id, frame.sequence)
        if message.id not in self._ours:
            return None if again else Said(message, "")
        if message.id in self.unanswered:
            self.unanswered[message.id] = frame.sequence
            if message.state in LOST:
                return self._ended(message.id, message.state, message.reason)
        return None

    def _mine(self, message_id: str, sequence: int) -> None:
        if message_id not in self._ours:
            self._ours.add(message_id)
            self.unanswered[message_id] = sequence

    def _piece(self, frame: Live) -> Show | None:
        written = self._live.setdefault(frame.message_id, _Written())
        if frame.sequence <= written.seen or frame.message_id not in self.unanswered:
            return None
        written.seen = frame.sequence
        written.text += frame.text
        return Piece(frame.message_id, frame.text)

    def _ended(self, message_id: str, state: str, reason: str | None) -> Show | None:
        self._live.pop(message_id, None)
        if self.unanswered.pop(message_id, None) is None:
            return None
        return Failed(f"your message has {_HOW.get(state, state)}{f': {reason}' if reason else ''}", state)

    def _wrong(self, frame: Wrong) -> Show | None:
        if frame.ref is None or frame.ref not in self.unsent:
            return None
        if frame.retry_after_s is not None:
            self.wait_s[frame.ref] = frame.retry_after_s
            return None
        del self.unsent[frame.ref]
        return Failed(f"not sent: {frame.detail}", frame.code)


@dataclass
class _Written:
    """What was shown of an answer while it was written. `whole`: nothing of it was missed."""

    text: str = ""
    seen: int = 0
    whole: bool = True


_HOW = {"failed": "failed", "expired": "expired", "read": "been read, and gets no answer"}
