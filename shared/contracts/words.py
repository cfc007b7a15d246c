"""Words and limits that several owners share."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Generic, NewType, TypeVar

import msgspec

T = TypeVar("T")

TaskId = NewType("TaskId", str)
BotId = NewType("BotId", str)
KeyId = NewType("KeyId", str)
MessageId = NewType("MessageId", str)
Party = NewType("Party", str)
"""Who sends or gets messages: a bot by its name, a person by `@` and the name of its key."""

NAME_PATTERN: Final = r"^[A-Za-z0-9_-]{1,50}(?!\n)$"
"""Names of bots, pools, engines: one token of a subject, one folder name.

Python's `$` alone would let a last newline pass.
"""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
_NAME = re.compile(NAME_PATTERN)


def person(name: str) -> Party:
    """The party of whoever holds a key of this name."""
    return Party(f"@{name}")


def is_person(party: Party) -> bool:
    """Whether a party is a person."""
    return party.startswith("@")


def is_name(text: str) -> bool:
    """Whether a text may name a bot, a pool or an engine."""
    return _NAME.fullmatch(text) is not None


class Priority(StrEnum):
    """How soon: P0 critical, P1 high, P2 normal, P3 low."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class MessageKind(StrEnum):
    """A note lies in the inbox until it is read; to a chat message the bot's engine answers."""

    NOTE = "note"
    CHAT = "chat"


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some of a list; `next_cursor` asks for what follows, None at the end."""

    items: list[T]
    next_cursor: str | None = None


class TaskType(StrEnum):
    """What kind of work a task is; bots are good at some."""

    CODE = "code"
    ANALYSIS = "analysis"
    WRITING = "writing"
    PLANNING = "planning"
    TESTING = "testing"
    DOCUMENTATION = "documentation"
    OTHER = "other"


class SideEffects(StrEnum):
    """What it means to run a task twice.

    `safe`: nothing; `idempotent`: the same as once; `ask`: a person must say if an attempt's end is unknown.
    """

    SAFE = "safe"
    IDEMPOTENT = "idempotent"
    ASK = "ask"


class AfterPolicy(StrEnum):
    """What those must have come to after which a task comes: `completed`, or `ended` in whichever way."""

    COMPLETED = "completed"
    ENDED = "ended"


CONTENT_CHARS_MAX: Final = 10_000
INPUT_BYTES_MAX: Final = 1_000_000
INLINE_BYTES_MAX: Final = 16_384  # larger input and output lie in the object store, by hash
BATCH_BYTES_MAX: Final = 16_000_000
BATCH_LINES_MAX: Final = 10_000
BROKER_PAYLOAD_BYTES_MAX: Final = 2_000_000
OUTPUT_BYTES_MAX: Final = 1_000_000  # what one attempt may print; the rest is cut and said so

PARTITIONS: Final = 128  # one is 1 %; fixed for the life of a hive

SLOTS_DEFAULT: Final = 3
SLOTS_MAX: Final = 64
ATTEMPTS_DEFAULT: Final = 3
ATTEMPTS_MAX: Final = 20
CHILDREN_MAX: Final = 1_000  # tasks that one attempt's bot may spawn, or ask about at a time
NOT_SEEN_YET: Final = "not_seen_yet"  # refused for now: to be asked again in a moment
JOIN_WITHIN_S_MAX: Final = 25.0  # of one request; who has more patience asks again
AFTER_MAX: Final = 100  # tasks that one may come after
DEPENDENCY_KNOWN_WITHIN: Final = timedelta(hours=1)  # who waits longer for what nobody submits, fails

BACKOFF_FIRST: Final = timedelta(seconds=1)
BACKOFF_MAX: Final = timedelta(seconds=30)

CIRCUIT_OPEN_S: Final = 300.0

HEARTBEAT_INTERVAL: Final = timedelta(seconds=1)
BOT_STOPS_ITSELF_AFTER: Final = timedelta(seconds=4)  # without an answer to its heartbeat
BOT_IS_SILENT_AFTER: Final = timedelta(seconds=5)
ASSIGNMENT_TAKEN_WITHIN: Final = timedelta(seconds=2)
TODO_INTERVAL: Final = timedelta(seconds=5)

MESSAGE_CHARS_MAX: Final = CONTENT_CHARS_MAX
MESSAGE_TTL_DEFAULT: Final = timedelta(hours=1)
MESSAGE_TTL_MIN: Final = timedelta(seconds=1)
MESSAGE_TTL_MAX: Final = timedelta(days=30)
DELIVERIES_DEFAULT: Final = 3
DELIVERIES_MAX: Final = 20
LANE_WINDOW: Final = 64  # messages of one priority that a bot may hold, or have on their way
BROADCAST_MAX: Final = 5_000  # bots
TAKEN_WITHIN: Final = timedelta(seconds=5)  # a mail on its way; then the session is begun anew

SEAT_TTL: Final = timedelta(seconds=2)
SEAT_RENEWAL: Final = timedelta(milliseconds=500)
ACK_WAIT: Final = timedelta(seconds=2)

TASK_TIMEOUT_DEFAULT: Final = timedelta(hours=1)
TASK_TIMEOUT_MAX: Final = timedelta(days=7)

# A bot that is cut off must have stopped before another gets its task, or two would work on it.
assert BOT_STOPS_ITSELF_AFTER < BOT_IS_SILENT_AFTER
assert HEARTBEAT_INTERVAL * 3 < BOT_STOPS_ITSELF_AFTER
assert SEAT_RENEWAL * 3 < SEAT_TTL
# What a dead holder held must be free when its seat is.
assert ACK_WAIT <= SEAT_TTL
assert CONTENT_CHARS_MAX * 4 < INPUT_BYTES_MAX < BROKER_PAYLOAD_BYTES_MAX < BATCH_BYTES_MAX
