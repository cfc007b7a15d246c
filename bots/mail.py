"""A bot's mail without any IO: whether a mail is the next one, and which message is handled next."""

from collections import deque
from collections.abc import Hashable
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import msgspec

from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import LANE_WINDOW, MessageId, MessageKind, Party, Priority

WEIGHTS: Final = {Priority.P1: 8, Priority.P2: 4, Priority.P3: 1}
"""P0 comes before all others; these take turns."""

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

REMEMBERED: Final = 4 * LANE_WINDOW * len(Priority)  # messages that are known when they come again


class Arrival(Enum):
    """What a mail is."""

    NEW = "new"
    KNOWN = "known"  # it is held, or was handled already
    FOREIGN = "foreign"  # of a session that is over
    AMISS = "amiss"  # not the next one of its lane: the session must begin anew


class _Torn(msgspec.Struct):
    """As much of a mail as sends it back."""

    session: str
    index: int
    message_id: MessageId
    delivery: int
    chain: Any = ""


_torn = msgspec.json.Decoder(_Torn)


def torn(data: bytes, priority: Priority) -> Mail | None:
    """What can be read of a mail that cannot be read as a whole; None if that does not say which it is."""
    try:
        part = _torn.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Mail(
        session=part.session,
        index=part.index,
        message_id=part.message_id,
        delivery=part.delivery,
        sequence=0,
        sender=Party(""),
        content="",
        priority=priority,
        kind=MessageKind.NOTE,
        sent_at=_NEVER,
        expires_at=_NEVER,
        chain=part.chain if isinstance(part.chain, str) else part.message_id,
    )


class Session:
    """The mails of one session: of each lane they come with the indexes 0, 1, 2 and so on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._next = dict.fromkeys(Priority, 0)

    def skip(self, priority: Priority) -> None:
        """The next one of a lane came, and nothing of it could be read."""
        self._next[priority] += 1

    def arrive(self, mail: Mail) -> Arrival:
        """NEW where it is the next one, and then the one after it is."""
        if mail.session != self.name:
            return Arrival.FOREIGN
        if mail.index != self._next[mail.priority]:
            return Arrival.AMISS
        self._next[mail.priority] += 1
        return Arrival.NEW


class Memory:
    """The newest of many things."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._things: dict[Hashable, None] = {}

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._things

    def add(self, thing: Hashable) -> None:
        """Know it from now on."""
        self._things[thing] = None
        if len(self._things) > self._remembered:
            del self._things[next(iter(self._things))]


class Lane:
    """What waits of one priority: each sender's messages in order, one of each sender at a time.

    One that was returned and comes again is awaited: what its sender sent later stays behind it.
    """

    def __init__(self) -> None:
        self._waiting: dict[Party, deque[Mail]] = {}
        self._ready: deque[Party] = deque()  # senders with something that waits and nothing in hand
        self._busy: set[Party] = set()
        self._awaited: dict[Party, MessageId] = {}

    @property
    def is_ready(self) -> bool:
        """Whether something may be begun."""
        return bool(self._ready)

    @property
    def waiting(self) -> list[Mail]:
        """All that is not begun."""
        return [mail for queue in self._waiting.values() for mail in queue]

    def add(self, mail: Mail) -> None:
        """It comes after all others of its sender, or in the place that was kept for it."""
        queue = self._waiting.get(mail.sender)
        is_first = queue is None
        if queue is None:
            queue = self._waiting[mail.sender] = deque()
        if self._awaited.get(mail.sender) == mail.message_id:
            queue.appendleft(mail)
            self.release(mail.sender)
            return
        queue.append(mail)
        if is_first and mail.sender not in self._busy:
            self._ready.append(mail.sender)

    def take(self) -> Mail:
        """Begin the next one."""
        sender = self._ready.popleft()
        self._busy.add(sender)
        queue = self._waiting[sender]
        mail = queue.popleft()
        if not queue:
            del self._waiting[sender]
        return mail

    def release(self, sender: Party) -> None:
        """What was in hand of this sender has ended."""
        self._awaited.pop(sender, None)
        self._busy.discard(sender)
        if sender in self._waiting:
            self._ready.append(sender)

    def keep_place(self, mail: Mail) -> None:
        """What was in hand comes again: nothing of its sender is begun before."""
        self._awaited[mail.sender] = mail.message_id

    def awaits(self, mail: Mail) -> bool:
        """Whether it has not come again yet."""
        return self._awaited.get(mail.sender) == mail.message_id


class Lanes:
    """Hands out messages: P0 first, the rest in turns by WEIGHTS, each sender's of one priority in order.

    Of other priorities than P0 at most `places` are in hand; one place more is kept for P0.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._session = Session("")
        self._lanes = {priority: Lane() for priority in Priority}
        self._credit = dict.fromkeys(WEIGHTS, 0)
        self._in_hand: dict[MessageId, Mail] = {}
        self._known = Memory()
        self._handled = Memory()

    @property
    def in_hand(self) -> tuple[MessageId, ...]:
        """The messages that were begun and have not ended."""
        return tuple(self._in_hand)

    @property
    def held(self) -> tuple[MessageId, ...]:
        """All messages that have come and have not ended."""
        waiting = [mail.message_id for lane in self._lanes.values() for mail in lane.waiting]
        return (*self._in_hand, *waiting)

    def begin_session(self, name: str) -> None:
        """What is held stays so: it was before all that is to come."""
        self._session = Session(name)

    def arrive(self, mail: Mail) -> Arrival:
        """What it is; a NEW one is known from now on, and to be added or answered by the caller."""
        arrival = self._session.arrive(mail)
        if arrival is not Arrival.NEW:
            return arrival
        key = (mail.message_id, mail.delivery)
        if key in self._known:
            return Arrival.KNOWN
        self._known.add(key)
        return Arrival.NEW

    def skip(self, priority: Priority) -> None:
        """A mail came of which nothing can be read: the one after it is the next one."""
        self._session.skip(priority)

    def add(self, mail: Mail) -> None:
        """It waits from now on."""
        self._lanes[mail.priority].add(mail)

    def next(self) -> Mail | None:
        """Begin a message, if one waits and there is a place for it; it is in hand until `end`."""
        free = self._places - len(self._in_hand)
        if self._lanes[Priority.P0].is_ready and free > -1:
            lane = self._lanes[Priority.P0]
        elif free > 0 and (turn := self._turn()) is not None:
            lane = self._lanes[turn]
        else:
            return None
        mail = lane.take()
        self._in_hand[mail.message_id] = mail
        return mail

    def end(self, mail: Mail, *, handled: bool, comes_again: bool = False) -> None:
        """It is in hand no more. `handled`: should it come again, it need not be handled again.

        `comes_again`: its sender's later ones of this priority wait for it, until `give_up`.
        """
        del self._in_hand[mail.message_id]
        lane = self._lanes[mail.priority]
        if comes_again:
            lane.keep_place(mail)
        else:
            lane.release(mail.sender)
        if handled:
            self._handled.add(mail.message_id)

    def give_up(self, mail: Mail) -> None:
        """It was to come again and its time is over: what waits for it waits no more."""
        lane = self._lanes[mail.priority]
        if lane.awaits(mail):
            lane.release(mail.sender)

    def was_handled(self, mail: Mail) -> bool:
        """Whether an earlier delivery of the message was handled to its end by this process."""
        return mail.message_id in self._handled

    def _turn(self) -> Priority | None:
        """Whose turn it is: each that is ready gains its weight, the richest pays for all."""
        ready = [priority for priority in WEIGHTS if self._lanes[priority].is_ready]
        if not ready:
            return None
        for priority in ready:
            self._credit[priority] += WEIGHTS[priority]
        richest = max(ready, key=self._credit.__getitem__)
        self._credit[richest] -= sum(WEIGHTS[priority] for priority in ready)
        return richest
