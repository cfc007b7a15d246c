"""A tiny domain for tests of the runtime: notes that can be written, and rubbed out once."""

from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from shared.kernel.codec import Codec
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected
from shared.kernel.messages import Cause, Command, Fact

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAUSE = Cause(message_id="m", correlation_id="chain", actor="key:test")


class NoteWritten(Fact, frozen=True, kw_only=True):
    text: str


class NoteRubbedOut(Fact, frozen=True, kw_only=True):
    pass


NoteFact = NoteWritten | NoteRubbedOut


class _NoteCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = "orchestrator"
    aggregate: ClassVar[str] = "pool"
    key_field: ClassVar[str] = "note_id"
    senders: ClassVar[frozenset[str]] = frozenset({"gateway", "service"})


class WriteNote(_NoteCommand, frozen=True, kw_only=True):
    opens: ClassVar[bool] = True

    note_id: str
    text: str


class RubOut(_NoteCommand, frozen=True, kw_only=True):
    note_id: str


class Break(_NoteCommand, frozen=True, kw_only=True):
    note_id: str


class Jot(_NoteCommand, frozen=True, kw_only=True):
    """What a bot may ask; the text `break` breaks, `gone` is refused."""

    opens: ClassVar[bool] = True
    senders: ClassVar[frozenset[str]] = frozenset({"bot"})

    note_id: str
    bot_id: str
    text: str


NoteRequest = WriteNote | RubOut | Break | Jot


class Note(msgspec.Struct, frozen=True):
    texts: tuple[str, ...] = ()
    gone: bool = False


def evolve(note: Note, fact: NoteFact, sequence: int, at: datetime) -> Note:
    match fact:
        case NoteWritten():
            return Note((*note.texts, fact.text), note.gone)
        case NoteRubbedOut():
            return Note(note.texts, gone=True)


def decide(note: Note, command: NoteRequest, at: datetime) -> list[NoteFact]:
    match command:
        case WriteNote(text=text):
            if note.gone:
                raise Rejected("note_gone", "it was rubbed out")
            return [] if text in note.texts else [NoteWritten(text=text)]
        case RubOut():
            if not note.texts:
                raise Rejected("no_note", "nothing is written")
            return [] if note.gone else [NoteRubbedOut()]
        case Jot(text="gone"):
            raise Rejected("note_gone", "it was rubbed out")
        case Jot(text=text) if text != "break":
            return [] if text in note.texts else [NoteWritten(text=text)]
        case Break() | Jot():
            raise ZeroDivisionError("broken on purpose")


NOTE: Decider[Note, NoteRequest, NoteFact] = Decider(initial=Note(), evolve=evolve, decide=decide)
NOTE_CODEC: Codec[NoteFact] = Codec(NoteFact)
