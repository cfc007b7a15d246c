"""The messages to one bot of one priority: which wait, which are with the bot, and which is sent next."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final

from services.messenger.decider.message_state import Delivered, Failed, Message, Pending
from shared.contracts.messenger.facts import MessageSent
from shared.contracts.words import LANE_WINDOW, MessageId, Party, Priority
from shared.kernel.messages import Cause

LANE_OF: Final = {priority: place for place, priority in enumerate(Priority)}


class Place(Enum):
    """Where a message stands: in its line, with the bot or on its way there, or nowhere any more."""

    WAITING = "waiting"
    OUT = "out"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Letter:
    """The words of a message, and what else of its beginning a mail needs."""

    sent: MessageSent
    at: datetime
    chain: str


@dataclass(slots=True, eq=False)
class Entry:
    """A message to a bot that has not ended, or has failed; `sequence` is its place in every order."""

    sequence: int
    version: int
    state: Pending | Delivered | Failed
    cause: Cause
    letter: Letter | None = None
    place: Place = Place.SETTLED

    def __lt__(self, other: "Entry") -> bool:
        return self.sequence < other.sequence

    @property
    def message_id(self) -> MessageId:
        """Its id."""
        return self.state.order.message_id

    @property
    def sender(self) -> Party:
        """Who sent it."""
        return self.state.order.sender


class Lane:
    """Lines by sender, each in the log's order: a message that must wait stops its own line only.

    At most a window of them is with the bot. One that comes back keeps its place among them (`owed`) while
    the bot has later ones of the same sender, which it may be holding back for it.
    """

    def __init__(self, window: int = LANE_WINDOW) -> None:
        self._window = window
        self.out: dict[MessageId, Entry] = {}
        self.next_index = 0
        self.waiting = 0
        self._owed: dict[MessageId, Entry] = {}
        self._lines: dict[Party, list[Entry]] = {}
        self._ready: list[tuple[int, Party]] = []

    def wait(self, entry: Entry) -> None:
        """It is to be sent, when its turn comes."""
        if entry.place is Place.WAITING:
            self.offer(entry.sender)
            return
        if self.out.pop(entry.message_id, None) is not None and self._has_later(entry):
            self._owed[entry.message_id] = entry
        entry.place = Place.WAITING
        self.waiting += 1
        line = self._lines.setdefault(entry.sender, [])
        heappush(line, entry)
        if line[0] is entry or line[0].place is not Place.WAITING:
            self.offer(entry.sender)

    def settle(self, entry: Entry) -> None:
        """It is neither to be sent nor with the bot any more: the next of its sender may go."""
        waited = entry.place is Place.WAITING
        entry.place = Place.SETTLED
        self.out.pop(entry.message_id, None)
        self._owed.pop(entry.message_id, None)
        if waited:
            self.waiting -= 1
            self.offer(entry.sender)

    def offer(self, sender: Party) -> None:
        """Look at the first of a sender's line again."""
        head = self._head(sender)
        if head is not None and isinstance(head.state, Pending):
            heappush(self._ready, (head.sequence, sender))

    def next(self, now: datetime) -> Entry | None:
        """What is to be sent next, if anything may be sent now."""
        for entry in sorted(self._owed.values()):
            if self._head(entry.sender) is entry and _is_due(entry.state, now):
                return entry
        if not self._has_room():
            return None
        while self._ready:
            sequence, sender = self._ready[0]
            head = self._head(sender)
            if head is not None and head.sequence == sequence and _is_due(head.state, now):
                return head
            heappop(self._ready)  # it is offered again when it is its turn
        return None

    def following(self, entry: Entry, most: int) -> list[Entry]:
        """About the next ones of the same line: a heap's beginning is nearly sorted."""
        return [each for each in self._lines[entry.sender][:most] if each.place is Place.WAITING]

    def send(self, entry: Entry) -> int:
        """It goes out: its index in this session."""
        self._put_out(entry)
        self._owed.pop(entry.message_id, None)
        self.offer(entry.sender)
        index, self.next_index = self.next_index, self.next_index + 1
        return index

    def begin(self, held: Collection[Entry]) -> None:
        """A new session: the bot has these, everything else waits."""
        self.end()
        self.next_index = 0
        for entry in held:
            if entry.place is Place.WAITING:
                self._put_out(entry)
        newest: dict[Party, int] = {}
        for entry in self.out.values():
            newest[entry.sender] = max(entry.sequence, newest.get(entry.sender, 0))
        for sender, sequence in newest.items():
            for entry in self._lines.get(sender, ()):
                if entry.place is Place.WAITING and entry.sequence < sequence:
                    self._owed[entry.message_id] = entry
        self._offer_all()

    def end(self) -> None:
        """The session is over: nobody knows what the bot has."""
        for entry in list(self.out.values()):
            self.wait(entry)
        self._owed.clear()

    def _put_out(self, entry: Entry) -> None:
        line = self._lines[entry.sender]
        if line[0] is entry:
            heappop(line)  # else it is dropped when it comes to the front
        self.waiting -= 1
        entry.place = Place.OUT
        self.out[entry.message_id] = entry

    def _offer_all(self) -> None:
        heads = [(sender, self._head(sender)) for sender in list(self._lines)]
        self._ready = [
            (head.sequence, sender)
            for sender, head in heads
            if head is not None and isinstance(head.state, Pending)
        ]
        heapify(self._ready)

    def _head(self, sender: Party) -> Entry | None:
        line = self._lines.get(sender)
        if line is None:
            return None
        while line and line[0].place is not Place.WAITING:
            heappop(line)
        if not line:
            del self._lines[sender]
            return None
        return line[0]

    def _has_later(self, entry: Entry) -> bool:
        return any(other.sender == entry.sender and entry < other for other in self.out.values())

    def _has_room(self) -> bool:
        if self._owed:
            self._owed = {key: entry for key, entry in self._owed.items() if self._has_later(entry)}
        return len(self.out) + len(self._owed) < self._window


def _is_due(state: Message, now: datetime) -> bool:
    return isinstance(state, Pending) and (state.retry_at is None or state.retry_at <= now)
