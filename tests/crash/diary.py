"""What talking bots write down, and what the log must say to it when everything was killed again and again.

A bot handles a message at least once: it may be killed between having done it and saying so, and its next
process does it again. What is checked is that this is the only way: never twice in one process, and never in
a process that began after the log knew that it was read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from services.messenger.facts import MESSAGE_CODEC
from shared.contracts.messenger.facts import (
    MessageExpired,
    MessageFact,
    MessageFailed,
    MessageRead,
    MessageSent,
)
from shared.runtime.store import Stored

BAD = "bad"
TTL_SHORT_S = 1.5
ENDS = (MessageRead, MessageFailed, MessageExpired)
FAILS_BY_A_KILL = "process_ended"


class Began(msgspec.Struct, frozen=True, tag="began"):
    """A process begins, the bot's next `life`."""

    at: datetime
    life: str


class Asks(msgspec.Struct, frozen=True, tag="asks"):
    """It is about to send this."""

    content: str


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """The hive has accepted it."""

    id: str
    content: str


class Did(msgspec.Struct, frozen=True, tag="did"):
    """It has done what a message asks."""

    life: str
    id: str
    sender: str
    priority: str
    sequence: int


Line = Began | Asks | Sent | Did
_lines = msgspec.json.Decoder(Line)


@dataclass
class Diary:
    """What one bot, or all persons together, wrote down."""

    lines: list[Line] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> "Diary":
        return cls([_lines.decode(line) for line in path.read_bytes().splitlines()])

    @property
    def asked(self) -> set[str]:
        return {line.content for line in self.lines if isinstance(line, Asks)}

    @property
    def accepted(self) -> dict[str, str]:
        return {line.id: line.content for line in self.lines if isinstance(line, Sent)}

    @property
    def did(self) -> list[Did]:
        return [line for line in self.lines if isinstance(line, Did)]

    @property
    def began(self) -> dict[str, datetime]:
        return {line.life: line.at for line in self.lines if isinstance(line, Began)}


@dataclass
class Letter:
    """A message as the log tells it: its last end, when that was, and when the log knew that it was read."""

    sequence: int
    sent: MessageSent
    end: MessageFact | None = None
    ended_at: datetime | None = None
    read_at: datetime | None = None


def letters_of(commits: Iterable[Stored]) -> dict[str, Letter]:
    """All messages of the log; each was sent once, read once at most, and nothing was decided twice."""
    letters: dict[str, Letter] = {}
    causes: Counter[tuple[str, str]] = Counter()
    for stored in commits:
        if stored.aggregate != "message":
            continue
        causes[stored.aggregate_id, stored.commit.cause] += 1
        for fact in MESSAGE_CODEC.decode_all(stored.commit.facts):
            if isinstance(fact, MessageSent):
                assert fact.message_id not in letters, f"{fact.message_id} was accepted twice"
                letters[fact.message_id] = Letter(stored.sequence, fact)
            letter = letters[stored.aggregate_id]
            if isinstance(fact, ENDS):
                letter.end, letter.ended_at = fact, stored.commit.at
            if isinstance(fact, MessageRead):
                assert letter.read_at is None, f"{stored.aggregate_id} was read twice"
                letter.read_at = stored.commit.at
    assert [cause for cause, times in causes.items() if times > 1] == [], "a command was decided twice"
    return letters


def check(commits: Iterable[Stored], diaries: Mapping[str, Diary]) -> Counter[str]:
    """Hold what was written down against the log; how the messages ended, by the name of the fact."""
    letters = letters_of(commits)
    _check_all_is_there(letters, diaries)
    _check_ends(letters)
    for bot, diary in diaries.items():
        _check_done(bot, diary, letters)
    return Counter(type(letter.end).__name__ for letter in letters.values())


def _check_all_is_there(letters: Mapping[str, Letter], diaries: Mapping[str, Diary]) -> None:
    asked = {content for diary in diaries.values() for content in diary.asked}
    for letter in letters.values():
        assert letter.sent.content in asked, f"nobody asked to send {letter.sent.content!r}"
    for diary in diaries.values():
        for message_id, content in diary.accepted.items():
            assert message_id in letters, f"{message_id} was accepted, and is not in the log"
            assert letters[message_id].sent.content == content


def _check_ends(letters: Mapping[str, Letter]) -> None:
    for message_id, letter in letters.items():
        match letter.end:
            case MessageRead():
                assert BAD not in letter.sent.content, f"{message_id} cannot have been done"
            case MessageFailed(code=code):
                assert BAD in letter.sent.content or code == FAILS_BY_A_KILL, f"{message_id}: {code}"
            case MessageExpired():
                assert letter.ended_at is not None
                assert letter.sent.expires_at <= letter.ended_at, f"{message_id} expired too soon"
            case _:
                raise AssertionError(f"{message_id} has not ended")


def _check_done(bot: str, diary: Diary, letters: Mapping[str, Letter]) -> None:
    done: defaultdict[str, list[Did]] = defaultdict(list)
    for did in diary.did:
        done[did.id].append(did)
    for message_id, times in done.items():
        letter = letters[message_id]
        assert letter.sent.recipient == bot, f"{bot} did what was for {letter.sent.recipient}"
        assert {did.sequence for did in times} == {letter.sequence}, f"{message_id} came under another number"
        assert len({did.life for did in times}) == len(times), f"{bot} did {message_id} twice in one process"
        for did in times:
            late = letter.read_at is not None and letter.read_at < diary.began[did.life]
            assert not late, f"{bot} did {message_id} again though the log knew that it was read"
    for message_id, letter in letters.items():
        if letter.sent.recipient == bot and letter.read_at is not None:
            assert message_id in done, f"{message_id} counts as read, and {bot} never did it"
    _check_order(bot, diary.did)


def _check_order(bot: str, did: Sequence[Did]) -> None:
    """Of one sender and priority, what is done for the first time comes after all that was done before."""
    newest: defaultdict[tuple[str, str], int] = defaultdict(int)
    known: set[str] = set()
    for each in did:
        if each.id in known:
            continue
        known.add(each.id)
        lane = each.sender, each.priority
        assert newest[lane] < each.sequence, f"{bot} did {each} after {newest[lane]}"
        newest[lane] = each.sequence
