"""Everything on its way, in memory: what waits for which bot, what it has, what is due when."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final, assert_never

from services.messenger.decider import MESSAGE
from services.messenger.decider.message_state import (
    Delivered,
    Expired,
    Failed,
    Message,
    Pending,
    Read,
    Unknown,
)
from services.messenger.directory import Directory
from services.messenger.facts import BOTS_HEARD, KEYS_HEARD, BotHeard, BroadcastEvent, KeyHeard, MessageEvent
from services.messenger.lanes import Entry, Letter, Place
from services.messenger.mailbox import Mailbox
from shared.contracts.messenger.facts import BroadcastSent, MessageReplayed, MessageSent
from shared.contracts.messenger.protocol import Hello, Mail
from shared.contracts.naming import partition_of, service_sender
from shared.contracts.words import LANE_WINDOW, BotId, MessageId, Party, is_person
from shared.kernel.messages import Cause, Recorded

OURSELVES: Final = service_sender("messenger")
DEADLINES_KEPT: Final = 1_000  # of messages that have ended, at least
LETTER_CHARS_MAX: Final = 64_000_000  # of all messages in memory; the others' words are read when it is time
NEAR: Final = 2 * LANE_WINDOW  # so many of a lane are near enough to keep their words when memory is scarce
READ_AHEAD: Final = 32  # letters asked for together
FAILED_KEPT_MAX: Final = 20_000  # messages in the dead letters; an older one that is put back is read again


class Board:
    """Takes in commits as the log tells them, each once, and knows what may be sent now.

    `touched` are the bots that may have something to get; `owned` the partitions whose bots get it from us.
    `recalled` are messages that were put back and are not in memory: their pasts must be read.
    """

    def __init__(
        self,
        window: int = LANE_WINDOW,
        letter_chars_max: int = LETTER_CHARS_MAX,
        failed_max: int = FAILED_KEPT_MAX,
    ) -> None:
        self._failed_max = failed_max
        self._window = window
        self._letter_chars_max = letter_chars_max
        self.messages: dict[MessageId, Entry] = {}
        self.boxes: dict[BotId, Mailbox] = {}
        self.sessions: dict[BotId, Mailbox] = {}
        self.broadcasts: dict[str, Recorded[BroadcastEvent]] = {}
        self.directory = Directory()
        self.owned: frozenset[int] = frozenset()
        self.touched: set[BotId] = set()
        self.recalled: set[MessageId] = set()
        self._reserved: dict[MessageId, BotId] = {}
        self._reserved_of: Counter[BotId] = Counter()
        self._failed: dict[MessageId, None] = {}
        self._letter_chars = 0
        self._deadlines: list[tuple[datetime, MessageId]] = []
        self._overdue: set[MessageId] = set()
        self._retries: list[tuple[datetime, MessageId]] = []

    # What the log tells.

    def take_message(self, commit: Recorded[MessageEvent]) -> None:
        """A message's commit. What is for people is delivered as soon as it is sent: it is not kept here."""
        first = commit.facts[0]
        message_id = MessageId(commit.aggregate_id)
        entry = self.messages.get(message_id)
        if entry is None:
            if not isinstance(first, MessageSent):
                if isinstance(first, MessageReplayed):
                    self.recalled.add(message_id)
                return
            self.release(message_id)
            if is_person(first.recipient):
                return
            before: Message = Unknown()
        elif commit.sequence <= entry.version:
            return
        else:
            before = entry.state
        after = MESSAGE.fold(before, commit.facts, commit.sequence, commit.at)
        if isinstance(after, Unknown | Read | Expired):
            if entry is not None:
                self._end(entry)
                self._tidy_box(BotId(entry.state.order.recipient))
            return
        if entry is None:
            assert isinstance(first, MessageSent), first
            entry = Entry(commit.sequence, commit.sequence, after, _cause(commit))
            self.messages[message_id] = entry
            box = self._box(BotId(first.recipient))
            self._keep_letter(entry, Letter(first, commit.at, commit.cause.correlation_id), box)
        entry.state, entry.version, entry.cause = after, commit.sequence, _cause(commit)
        self._index(entry, before, after)

    def recall(self, message_id: MessageId, past: Sequence[Recorded[MessageEvent]]) -> None:
        """A message as the log has it, which may be ahead of us: a commit counts once."""
        self.recalled.discard(message_id)
        if message_id not in self.messages:
            for commit in past:
                self.take_message(commit)
            self.recalled.discard(message_id)

    def take_broadcast(self, commit: Recorded[BroadcastEvent]) -> None:
        """A broadcast's commit: those whose messages do not all exist yet are outstanding."""
        if isinstance(commit.facts[0], BroadcastSent):
            self.broadcasts[commit.aggregate_id] = commit
        else:
            self.broadcasts.pop(commit.aggregate_id, None)

    def take_bot(self, commit: Recorded[BotHeard]) -> None:
        """A bot came or went."""
        for fact in commit.facts:
            bot_id = self.directory.hear_bot(fact)
            if bot_id in self.boxes:
                self.touched.add(bot_id)

    def take_key(self, commit: Recorded[KeyHeard]) -> None:
        """A key came or went."""
        for fact in commit.facts:
            self.directory.hear_key(fact)

    def begin(self, _sequence: int, parties: Sequence[tuple[str, bytes]]) -> None:
        """The parties as a table knows them, in place of their whole pasts."""
        for aggregate, fact in parties:
            if aggregate == "bot":
                self.directory.hear_bot(BOTS_HEARD.decode(fact))
            else:
                self.directory.hear_key(KEYS_HEARD.decode(fact))

    # What is ours.

    def own_partitions(self, owned: frozenset[int]) -> None:
        """From now on the bots of these partitions get their mail from us, each from its next Hello on."""
        gained = owned - self.owned
        self.owned = owned
        for box in list(self.sessions.values()):
            if box.partition not in owned:
                self._end_session(box)
        self.touched |= {bot_id for bot_id, box in self.boxes.items() if box.partition in gained}

    def end_sessions(self) -> None:
        """What was on its way may be lost: every bot is to say Hello again."""
        for box in list(self.sessions.values()):
            self._end_session(box)
        self.touched |= self.boxes.keys()

    def begin_session(self, hello: Hello, mono: float) -> None:
        """A bot begins anew, with what it holds."""
        box = self._box(hello.bot_id)
        held = [
            entry
            for message_id in dict.fromkeys(hello.holding)
            if (entry := self.messages.get(message_id)) is not None
            and entry.state.order.recipient == Party(hello.bot_id)
            and entry.place is not Place.SETTLED
        ]
        box.begin(hello.session, held, mono)
        self.sessions[hello.bot_id] = box
        self.touched.add(hello.bot_id)

    def to_send(self, box: Mailbox, now: datetime, mono: float) -> tuple[list[Mail], list[MessageId]]:
        """What may be sent to a bot now, and of which messages the words must be read first."""
        mails: list[Mail] = []
        missing: list[MessageId] = []
        if box.session is None or box.partition not in self.owned:
            return mails, missing
        for lane in box.lanes:
            while (entry := lane.next(now)) is not None:
                if entry.letter is None:
                    missing += [
                        each.message_id for each in lane.following(entry, READ_AHEAD) if each.letter is None
                    ]
                    break
                index = lane.send(entry)
                box.session.untaken[entry.message_id] = mono
                mails.append(_mail(entry, entry.letter, box.session.name, index))
        return mails, missing

    def put_letter(self, message_id: MessageId, letter: Letter) -> None:
        """The words of a message whose turn it is."""
        entry = self.messages.get(message_id)
        if entry is not None and entry.letter is None:
            entry.letter = letter
            self._letter_chars += len(letter.sent.content)
            self.touched.add(BotId(entry.state.order.recipient))

    # Who may get more.

    def unread(self, bot_id: BotId) -> int:
        """Messages to a bot that are not read, those being decided included."""
        box = self.boxes.get(bot_id)
        return (0 if box is None else box.unread) + self._reserved_of[bot_id]

    def reserve(self, message_id: MessageId, bot_id: BotId) -> None:
        """Keep a place in an inbox until the log tells of the message, or it is refused."""
        self.release(message_id)
        self._reserved[message_id] = bot_id
        self._reserved_of[bot_id] += 1

    def release(self, message_id: MessageId) -> None:
        """Its place is counted elsewhere, or not needed."""
        bot_id = self._reserved.pop(message_id, None)
        if bot_id is not None:
            self._reserved_of[bot_id] -= 1
            if not self._reserved_of[bot_id]:
                del self._reserved_of[bot_id]

    # What time brings.

    def pass_time(self, now: datetime) -> None:
        """Let what has come due be seen."""
        while self._retries and self._retries[0][0] <= now:
            entry = self.messages.get(heappop(self._retries)[1])
            if entry is not None and entry.place is Place.WAITING:
                box = self._box(BotId(entry.state.order.recipient))
                box.lane_of(entry).offer(entry.sender)
                self.touched.add(box.bot_id)
        while self._deadlines and self._deadlines[0][0] <= now:
            message_id = heappop(self._deadlines)[1]
            if message_id in self.messages:
                self._overdue.add(message_id)

    def overdue(self, now: datetime) -> Iterator[Entry]:
        """The messages whose time is over before anybody has seen them."""
        for message_id in list(self._overdue):
            entry = self.messages.get(message_id)
            if entry is not None and _is_over(entry.state, now):
                yield entry
            else:
                self._overdue.discard(message_id)

    # How.

    def _index(self, entry: Entry, before: Message, after: Pending | Delivered | Failed) -> None:
        box = self._box(BotId(after.order.recipient))
        message_id, lane, session = entry.message_id, box.lane_of(entry), box.session
        if isinstance(before, Unknown | Failed):
            box.unread += 1
            self._failed.pop(message_id, None)
        if isinstance(before, Delivered) and before.kept:
            box.kept.pop(message_id, None)
            if session is not None:
                session.lost.pop(message_id, None)
        match after:
            case Pending():
                if session is not None:
                    session.untaken.pop(message_id, None)
                lane.wait(entry)
                if after.retry_at is not None:
                    heappush(self._retries, (after.retry_at, message_id))
                if not (isinstance(before, Pending) or (isinstance(before, Delivered) and before.kept)):
                    heappush(self._deadlines, (after.expires_at, message_id))
                    self._tidy_deadlines()
            case Delivered(kept=True):
                box.kept[message_id] = entry
                if session is not None:
                    session.untaken.pop(message_id, None)
                    if entry.place is not Place.OUT:
                        session.lost[message_id] = False  # the word of a process that is gone
            case Delivered():
                if session is not None:
                    session.untaken.pop(message_id, None)
                lane.settle(entry)
                self._drop_letter(entry)
            case Failed():
                self._settle(entry, box)
                self._keep_failed(message_id)
            case _:
                assert_never(after)
        self.touched.add(box.bot_id)

    def _end(self, entry: Entry) -> None:
        """It was read, or has expired."""
        box = self._box(BotId(entry.state.order.recipient))
        if isinstance(entry.state, Failed):
            self._failed.pop(entry.message_id, None)
        else:
            self._settle(entry, box)
        del self.messages[entry.message_id]
        self.touched.add(box.bot_id)

    def _settle(self, entry: Entry, box: Mailbox) -> None:
        """Nothing of it is unread, with the bot, or to be sent."""
        box.unread -= 1
        box.kept.pop(entry.message_id, None)
        if box.session is not None:
            box.session.untaken.pop(entry.message_id, None)
            box.session.lost.pop(entry.message_id, None)
        box.lane_of(entry).settle(entry)
        self._drop_letter(entry)

    def _keep_failed(self, message_id: MessageId) -> None:
        self._failed[message_id] = None
        if len(self._failed) > self._failed_max:
            oldest = next(iter(self._failed))
            del self._failed[oldest], self.messages[oldest]

    def _keep_letter(self, entry: Entry, letter: Letter, box: Mailbox) -> None:
        size = len(letter.sent.content)
        used = self._letter_chars + size
        near = box.lane_of(entry).waiting < NEAR
        most = self._letter_chars_max
        if used <= most and (near or used <= most // 2):
            entry.letter = letter
            self._letter_chars = used

    def _drop_letter(self, entry: Entry) -> None:
        if entry.letter is not None:
            self._letter_chars -= len(entry.letter.sent.content)
            entry.letter = None

    def _end_session(self, box: Mailbox) -> None:
        box.end()
        self.sessions.pop(box.bot_id, None)

    def _tidy_box(self, bot_id: BotId) -> None:
        """What waited for a name that is no bot's is gone, and so is the name."""
        box = self.boxes[bot_id]
        if not box.unread and box.session is None and bot_id not in self.directory.bots:
            del self.boxes[bot_id]

    def _box(self, bot_id: BotId) -> Mailbox:
        box = self.boxes.get(bot_id)
        if box is None:
            box = self.boxes[bot_id] = Mailbox(bot_id, partition_of(bot_id), self._window)
        return box

    def _tidy_deadlines(self) -> None:
        """Forget those of messages that have ended, once they are the most."""
        if len(self._deadlines) > 2 * len(self.messages) + DEADLINES_KEPT:
            self._deadlines = [each for each in self._deadlines if each[1] in self.messages]
            heapify(self._deadlines)


def _is_over(state: Message, now: datetime) -> bool:
    match state:
        case Pending() | Delivered(kept=True):
            return state.expires_at <= now
        case _:
            return False


def _mail(entry: Entry, letter: Letter, session: str, index: int) -> Mail:
    state, sent = entry.state, letter.sent
    assert isinstance(state, Pending), state
    return Mail(
        session=session,
        index=index,
        message_id=sent.message_id,
        delivery=state.delivery,
        sequence=entry.sequence,
        sender=sent.sender,
        content=sent.content,
        priority=sent.priority,
        kind=sent.kind,
        sent_at=letter.at,
        expires_at=state.expires_at,
        chain=letter.chain,
        in_reply_to=sent.in_reply_to,
        broadcast=sent.broadcast,
        error=sent.error,
        again=state.counted + 1 < state.order.deliveries_max,
    )


def _cause(commit: Recorded[MessageEvent]) -> Cause:
    """What we do about it is caused by it, and done by us."""
    return Cause(message_id=commit.commit_id, correlation_id=commit.cause.correlation_id, actor=OURSELVES)
