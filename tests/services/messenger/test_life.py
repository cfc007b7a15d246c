"""Any words about a message, in any order, at any time: the promises hold."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.messenger.commands import ExpireMessage, LoseDelivery, MessageWish, TakeBack
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
from services.messenger.facts import MESSAGE_CODEC, MessageEvent
from services.messenger.projection import fold_message
from shared.contracts.messenger.commands import (
    LetExpire,
    MarkRead,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.facts import MessageFailed, MessageReplayed, MessageReturned, MessageSent
from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import BotId, MessageId, Party
from shared.kernel.codec import encode
from shared.kernel.errors import Rejected
from shared.kernel.messages import Recorded
from tests.services.messenger.builders import ANN, BETA, send
from tests.services.messenger.world import CAUSE
from tests.support.scenario import NOON

M1 = MessageId("m1")
WORDS: dict[type[Message], str] = {
    Pending: "pending",
    Delivered: "delivered",
    Read: "read",
    Failed: "failed",
    Expired: "expired",
}
deliveries = st.integers(0, 6)
bots = st.sampled_from([BETA, BETA, BETA, BotId("alpha")])
returns = st.builds(
    ReturnMessage,
    message_id=st.just(M1),
    bot_id=bots,
    delivery=deliveries,
    code=st.just("engine"),
    reason=st.just("x"),
    retryable=st.sampled_from([True, True, False]),
)
wishes: st.SearchStrategy[MessageWish] = st.one_of(
    st.builds(send, st.just("m1"), ttl_s=st.just(60.0), deliveries_max=st.just(3)),
    st.builds(TakeMessage, message_id=st.just(M1), bot_id=bots, delivery=deliveries, kept=st.booleans()),
    st.builds(ReadMessage, message_id=st.just(M1), bot_id=bots, delivery=deliveries),
    returns,
    st.builds(
        TakeBack,
        message_id=st.just(M1),
        wish=returns,
        backoff_first_s=st.just(1.0),
        backoff_max_s=st.just(5.0),
    ),
    st.builds(LetExpire, message_id=st.just(M1), bot_id=bots, delivery=deliveries),
    st.builds(MarkRead, message_id=st.just(M1), reader=st.just(ANN)),
    st.builds(
        ReplayMessage,
        message_id=st.just(M1),
        sender=st.just(ANN),
        recipient=st.just(Party(BETA)),
        content=st.just(""),
    ),
    st.builds(LoseDelivery, message_id=st.just(M1), delivery=deliveries, counts=st.booleans()),
    st.builds(ExpireMessage, message_id=st.just(M1), absent=st.booleans()),
)


class MessageLife(RuleBasedStateMachine):
    """Commands come as they like; facts are what was decided."""

    def __init__(self) -> None:
        super().__init__()
        self.at = NOON
        self.state: Message = MESSAGE.initial
        self.past: list[MessageEvent] = []
        self.doc: MessageDoc | None = None
        self.commits = 0

    @rule(wish=wishes, later=st.integers(0, 20))
    def say(self, wish: MessageWish, later: int) -> None:
        self.at += timedelta(seconds=later)
        before = self.state
        try:
            facts = MESSAGE.decide(before, wish, self.at)
        except Rejected:
            return
        if facts:
            self._commit(facts)
        if isinstance(before, Read):
            assert facts == []
        try:
            assert MESSAGE.decide(self.state, wish, self.at) == []  # asked twice
        except Rejected as rejected:
            assert rejected.code == "not_failed"  # noqa: PT017 - put back already

    @precondition(lambda self: isinstance(self.state, Pending))
    @rule(kept=st.booleans())
    def deliver(self, kept: bool) -> None:  # noqa: FBT001 - a strategy's value
        assert isinstance(self.state, Pending)
        self.say(TakeMessage(message_id=M1, bot_id=BETA, delivery=self.state.delivery, kept=kept), 0)
        assert isinstance(self.state, Delivered)

    def _commit(self, facts: list[MessageEvent]) -> None:
        self.commits += 1
        self.past += facts
        self.state = MESSAGE.fold(self.state, facts, self.commits, self.at)
        commit = Recorded(
            facts=tuple(facts),
            commit_id=str(self.commits),
            aggregate="message",
            aggregate_id=M1,
            sequence=self.commits,
            at=self.at,
            cause=CAUSE,
        )
        self.doc = fold_message(self.doc, commit)
        assert fold_message(self.doc, commit) == self.doc  # taken in twice

    @invariant()
    def what_was_stored_reads_back(self) -> None:
        assert self.past == [MESSAGE_CODEC.decode(encode(fact)) for fact in self.past]

    @invariant()
    def it_is_sent_once(self) -> None:
        assert [type(fact) for fact in self.past].count(MessageSent) == min(1, len(self.past))

    @invariant()
    def each_delivery_has_its_own_number(self) -> None:
        numbers = [fact.delivery for fact in self.past if isinstance(fact, MessageReturned | MessageReplayed)]
        assert numbers == list(range(2, 2 + len(numbers)))

    @invariant()
    def no_more_deliveries_count_than_it_may_have(self) -> None:
        replays = sum(isinstance(fact, MessageReplayed) for fact in self.past)
        counted = sum(isinstance(fact, MessageReturned) and fact.counts for fact in self.past)
        failed = sum(isinstance(fact, MessageFailed) for fact in self.past)
        assert counted + failed <= 3 * (1 + replays)

    @invariant()
    def the_document_says_what_the_rules_mean(self) -> None:
        assert (self.doc is None) == isinstance(self.state, Unknown)
        if self.doc is not None:
            assert self.doc.state == WORDS[type(self.state)]
            assert self.doc.deliveries <= self.doc.deliveries_max


TestMessageLife = MessageLife.TestCase
