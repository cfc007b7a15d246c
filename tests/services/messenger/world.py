"""A log, the board that follows it, and bots that get their mail: no process, no broker, no clock."""

from collections import defaultdict
from datetime import datetime, timedelta

from services.messenger import reactions
from services.messenger.board import FAILED_KEPT_MAX, Board
from services.messenger.commands import MessageWish
from services.messenger.decider import MESSAGE
from services.messenger.decider.message_state import Message
from services.messenger.facts import BotHeard, MessageEvent
from services.messenger.lanes import Letter
from services.messenger.steps import Decide
from shared.contracts.messenger.facts import MessageSent
from shared.contracts.messenger.protocol import Hello, Mail
from shared.contracts.orchestrator.facts import BotLaunched, BotSpec
from shared.contracts.words import LANE_WINDOW, PARTITIONS, BotId, MessageId
from shared.kernel.errors import Rejected
from shared.kernel.messages import Cause, Recorded
from tests.support.scenario import NOON

ALL = frozenset(range(PARTITIONS))
CAUSE = Cause(message_id="cause", correlation_id="chain", actor="key-1")


class World:
    """What is decided stands in the log at once, and the board sees it in order."""

    def __init__(
        self,
        *bots: str,
        window: int = LANE_WINDOW,
        letter_chars_max: int = 1_000_000,
        owned: frozenset[int] = ALL,
        failed_max: int = FAILED_KEPT_MAX,
    ) -> None:
        self.log: defaultdict[MessageId, list[Recorded[MessageEvent]]] = defaultdict(list)
        self.at = NOON
        self.sequence = 0
        self.states: dict[MessageId, Message] = {}
        self.letters: dict[MessageId, Letter] = {}
        self.board = Board(window, letter_chars_max, failed_max)
        self.board.own_partitions(owned)
        for bot in bots:
            launched = BotLaunched(bot_id=BotId(bot), spec=BotSpec(engine="echo"), generation=1)
            self.board.take_bot(self.recorded("bot", bot, launched))

    @property
    def mono(self) -> float:
        return (self.at - NOON).total_seconds()

    def later(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.board.pass_time(self.at)

    def decide(self, wish: MessageWish, at: datetime | None = None) -> list[MessageEvent]:
        """Decide a command, and let the board see what came of it; nothing if it was refused."""
        message_id = wish.message_id
        state = self.states.get(message_id, MESSAGE.initial)
        try:
            facts = MESSAGE.decide(state, wish, at or self.at)
        except Rejected:
            return []
        if facts:
            commit = self.recorded("message", message_id, *facts)
            self.states[message_id] = MESSAGE.fold(state, facts, commit.sequence, commit.at)
            if isinstance(facts[0], MessageSent):
                self.letters[message_id] = Letter(facts[0], commit.at, "chain")
            self.log[message_id].append(commit)
            self.board.take_message(commit)
        return facts

    def recorded(self, aggregate: str, aggregate_id: str, *facts: MessageEvent | BotHeard) -> Recorded:  # type: ignore[type-arg] # of several kinds
        self.sequence += 1
        return Recorded(
            facts=facts,
            commit_id=f"commit-{self.sequence}",
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            sequence=self.sequence,
            at=self.at,
            cause=CAUSE,
        )

    def hello(self, bot: str, session: str, holding: tuple[MessageId, ...] = ()) -> None:
        """A bot begins a session; what it no longer has is decided to be lost."""
        self.board.begin_session(Hello(bot_id=BotId(bot), session=session, holding=holding), self.mono)
        self.lose(bot)

    def lose(self, bot: str) -> None:
        """What the bot's dead process had is lost."""
        for step in reactions.lost(self.board.boxes[BotId(bot)]):
            assert isinstance(step, Decide)
            self.decide(step.command)

    def mail(self, bot: str) -> list[Mail]:
        """Everything that may go to a bot now; words that are not in memory are read."""
        box = self.board.boxes.get(BotId(bot))
        mails: list[Mail] = []
        while box is not None:
            some, missing = self.board.to_send(box, self.at, self.mono)
            mails += some
            if not missing:
                break
            for message_id in missing:
                self.board.put_letter(message_id, self.letters[message_id])
        return mails
