"""What every stored or sent message is made of."""

from datetime import datetime
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

E = TypeVar("E")
A = TypeVar("A")

PARCEL_MAX: Final = 64  # commands that one stored message may hold


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="fact", omit_defaults=True):
    """A fact: past tense, stored for ever, read tolerantly."""


class Command(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag=True,
    tag_field="command",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A wish: imperative, answered at once, read strictly.

    `service` decides it, on the `aggregate` whose id stands in the field `key_field`.
    Only a sender of one of the kinds in `senders` (`gateway`, `service`, `bot`) may send it.
    `opens` says that it begins an aggregate: where memory holds none, there probably is none (the expected
    version of the append proves it).
    """

    service: ClassVar[str]
    aggregate: ClassVar[str]
    key_field: ClassVar[str]
    senders: ClassVar[frozenset[str]]
    opens: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The id of the aggregate that this wish is about."""
        key: str = getattr(self, self.key_field)
        return key


class Query(
    msgspec.Struct,
    Generic[A],
    frozen=True,
    kw_only=True,
    tag=True,
    tag_field="query",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A question to one service's views. `answer` is the type of what comes back."""

    service: ClassVar[str]
    answer: ClassVar[object]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command on its way: its id, its chain, and who asks (believed only from the gateway)."""

    id: str
    chain: str
    actor: str
    command: msgspec.Raw


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """Several commands of one bot in one stored message: the envelopes, 1 to PARCEL_MAX, in their order.

    They may be about several aggregates of one service. Each is read, allowed and decided by itself.
    """

    parcel: list[msgspec.Raw]


class Commit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of one decision about one aggregate: one message of the log.

    `at` is RFC 3339 in UTC and never before the aggregate's last; `cause` is the id of the command decided;
    `chain` is the id of the first command of the chain; `actor` is who asked for it.
    """

    id: str
    at: datetime
    actor: str
    cause: str
    chain: str
    facts: list[msgspec.Raw]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something happens: the message before it, the first of the chain, and who began it."""

    message_id: str
    correlation_id: str
    actor: str


class Recorded(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """One commit as the log holds it, with the facts of it that its reader understands.

    `sequence` is the stream sequence of the commit: the aggregate's version, and a fencing token.
    """

    facts: tuple[E, ...]
    commit_id: str
    aggregate: str
    aggregate_id: str
    sequence: int
    at: datetime
    cause: Cause


class Committed(msgspec.Struct, frozen=True, kw_only=True, tag="committed", tag_field="outcome"):
    """The command made facts: they stand in the log at `sequence`."""

    command_id: str
    sequence: int


class AlreadySo(msgspec.Struct, frozen=True, kw_only=True, tag="already", tag_field="outcome"):
    """Nothing was to be decided: what was asked for is so, as of `sequence`."""

    command_id: str
    sequence: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="outcome"):
    """The owner said no. `code` is for programs, `detail` for people."""

    command_id: str
    code: str
    detail: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="outcome"):
    """The owner could not decide; the command lies in the dead letters under `dead_letter`."""

    command_id: str
    dead_letter: str
    detail: str


Outcome = Committed | AlreadySo | Refused | Failed
