"""What one bot has to get, and its session with us."""

from collections.abc import Collection
from dataclasses import dataclass, field

from services.messenger.decider.message_state import Pending
from services.messenger.lanes import LANE_OF, Entry, Lane, Place
from shared.contracts.words import BotId, MessageId


@dataclass(slots=True)
class Session:
    """From one Hello to the next. `untaken`: since when what was sent is not taken, the oldest first.

    `lost`: what the bot had taken and no longer has; True if that delivery counts. `doubted`: it should have
    said by now that the time of what it keeps is over, so perhaps it is not there.
    """

    name: str
    begun: float
    doubted: bool = False
    untaken: dict[MessageId, float] = field(default_factory=dict)
    lost: dict[MessageId, bool] = field(default_factory=dict)


class Mailbox:
    """The lanes of one bot, what it was given to keep, and how much is unread."""

    def __init__(self, bot_id: BotId, partition: int, window: int) -> None:
        self.bot_id = bot_id
        self.partition = partition
        self.lanes = tuple(Lane(window) for _ in LANE_OF)
        self.unread = 0
        self.kept: dict[MessageId, Entry] = {}
        self.session: Session | None = None

    @property
    def outstanding(self) -> bool:
        """Whether the bot has something to get, or has something that it must see to."""
        return bool(self.kept) or any(lane.waiting or lane.out for lane in self.lanes)

    def lane_of(self, entry: Entry) -> Lane:
        """The lane of a message."""
        return self.lanes[LANE_OF[entry.state.order.priority]]

    def begin(self, session: str, held: Collection[Entry], mono: float) -> None:
        """A new session of a bot that holds these. What else it took to see to is lost.

        The oldest of a lane was probably being handled when the process died: only that delivery counts, so
        that a message which kills its process ends in the dead letters, and innocent ones do not.
        """
        self.session = Session(session, mono)
        oldest: dict[Lane, Entry] = {}
        for entry in self.kept.values():
            lane = self.lane_of(entry)
            if lane not in oldest or entry < oldest[lane]:
                oldest[lane] = entry
        for lane in self.lanes:
            lane.begin([entry for entry in held if self.lane_of(entry) is lane])
        for entry in held:
            if entry.place is Place.OUT and isinstance(entry.state, Pending):
                self.session.untaken[entry.message_id] = mono
        for entry in self.kept.values():
            if entry.place is not Place.OUT:
                self.session.lost[entry.message_id] = oldest[self.lane_of(entry)] is entry

    def end(self) -> None:
        """The session is over: what the bot has, nobody knows."""
        self.session = None
        for lane in self.lanes:
            lane.end()
