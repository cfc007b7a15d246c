"""Who may ask what, and where answers may go."""

import msgspec
import pytest

from shared.kernel.codec import encode
from shared.kernel.errors import Rejected, Undecodable
from shared.kernel.messages import Command, Envelope
from shared.runtime.handler import Handler
from shared.runtime.ids import new_id
from shared.runtime.intake import Intake, Request, Route, reply_to_of
from shared.runtime.memory import MemoryStore
from tests.support.notes import NOON, NOTE, NOTE_CODEC, NoteRequest, WriteNote

INTAKE = Intake(
    [Route(NoteRequest, Handler(NOTE, "note", NOTE_CODEC, MemoryStore(), now=lambda: NOON, new_id=new_id))]
)
NOTE_A = WriteNote(note_id="n", text="a")


def envelope(command: Command | bytes = NOTE_A) -> bytes:
    body = command if isinstance(command, bytes) else encode(command)
    return encode(Envelope(id="c1", chain="chain", actor="key:forged", command=msgspec.Raw(body)))


def read(subject: str = "cmd.notes.7.gateway.n", data: bytes | None = None) -> Request:
    return INTAKE.read(subject, {}, envelope() if data is None else data)


def test_an_actor_is_believed_from_the_gateway_only() -> None:
    assert read().cause.actor == "key:forged"
    assert read("cmd.notes.7.svc-other.n").cause.actor == "svc-other"


@pytest.mark.parametrize(
    "reply_to",
    [
        "_INBOX.svc-audit.x",
        "evt.task.1",
        "_INBOX.gateway",
        "_INBOX.gateway.*",
        "_INBOX.gatewayX.1",
        "_INBOX.gateway.a b",
    ],
)
def test_a_forged_reply_subject_is_not_answered(reply_to: str) -> None:
    assert reply_to_of("gateway", {"Hive-Reply": reply_to}) is None


def test_the_senders_own_inbox_is_answered() -> None:
    assert reply_to_of("gateway", {"Hive-Reply": "_INBOX.gateway.x.1"}) == "_INBOX.gateway.x.1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"id":"c"}',
        envelope(b'{"command":"Unheard"}'),
        envelope(b'{"command":"WriteNote","note_id":"n","text":"a","more":1}'),
        envelope(b'{"command":"WriteNote","note_id":"n","text":7}'),
        envelope(b"[1]"),
    ],
)
def test_what_cannot_be_read_is_for_the_dead_letters(data: bytes) -> None:
    with pytest.raises(Undecodable):
        read(data=data)


@pytest.mark.parametrize("subject", ["cmd.notes.7.bot-a.n", "cmd.notes.7.gateway.another"])
def test_who_may_not_ask_is_refused(subject: str) -> None:
    with pytest.raises(Rejected, match="sender_refused"):
        read(subject)
