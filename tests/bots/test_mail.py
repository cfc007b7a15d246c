"""In which order a bot handles its mail, whatever is lost on its way."""

from collections import defaultdict

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bots.mail import WEIGHTS, Arrival, Lanes
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import Priority
from tests.bots.mails import mail

PLACES = 2
SENDERS = st.sampled_from(["beta", "@kai"])
PRIORITIES = st.sampled_from(list(Priority))
ROUND = sum(WEIGHTS.values())


def test_a_mail_of_another_session_is_none_of_ours() -> None:
    lanes = Lanes(PLACES)
    lanes.begin_session("new")

    assert lanes.arrive(mail(session="old")) is Arrival.FOREIGN


def test_a_mail_that_is_not_the_next_of_its_lane_shows_that_one_was_lost() -> None:
    lanes = Lanes(PLACES)
    lanes.begin_session("s")

    assert lanes.arrive(mail(index=0)) is Arrival.NEW
    assert lanes.arrive(mail(priority=Priority.P0, index=0)) is Arrival.NEW
    assert lanes.arrive(mail(index=2)) is Arrival.AMISS


def test_a_delivery_that_is_known_is_not_handled_again_and_a_later_one_is() -> None:
    lanes = Lanes(PLACES)
    lanes.begin_session("s")
    first = mail(index=0)
    lanes.arrive(first)
    lanes.add(first)
    assert lanes.next() is first

    lanes.begin_session("t")
    again = msgspec.structs.replace(first, session="t")
    later = msgspec.structs.replace(first, session="t", index=1, delivery=2)

    assert lanes.arrive(again) is Arrival.KNOWN
    assert lanes.arrive(later) is Arrival.NEW


def test_what_was_handled_to_its_end_is_known_to_be_though_it_comes_as_another_delivery() -> None:
    lanes = Lanes(PLACES)
    message, other = mail(), mail()
    for each, handled in ((message, True), (other, False)):
        lanes.add(each)
        assert lanes.next() is each
        lanes.end(each, handled=handled)

    assert lanes.was_handled(msgspec.structs.replace(message, delivery=2))
    assert not lanes.was_handled(msgspec.structs.replace(other, delivery=2))


def test_a_place_is_kept_for_what_is_critical() -> None:
    lanes = Lanes(1)
    slow, urgent, second = mail("beta"), mail("gamma", Priority.P0), mail("@kai", Priority.P0)
    for each in (slow, mail("delta")):
        lanes.add(each)
    assert lanes.next() is slow
    assert lanes.next() is None

    lanes.add(urgent)
    lanes.add(second)

    assert lanes.next() is urgent
    assert lanes.next() is None
    lanes.end(slow, handled=True)
    assert lanes.next() is second


def test_a_critical_message_overtakes_all_that_wait() -> None:
    lanes = Lanes(PLACES)
    for _ in range(100):
        lanes.add(mail("beta", Priority.P1))
    urgent = mail("beta", Priority.P0)
    lanes.add(urgent)

    assert lanes.next() is urgent


def test_the_others_take_turns_by_their_weights() -> None:
    lanes = Lanes(PLACES)
    for _ in range(2 * ROUND):
        for priority in WEIGHTS:
            lanes.add(mail("beta", priority))

    turns = [handle_next(lanes).priority for _ in range(2 * ROUND)]

    assert {priority: turns.count(priority) for priority in WEIGHTS} == {
        priority: 2 * weight for priority, weight in WEIGHTS.items()
    }
    longest = max("".join("." if turn is Priority.P1 else "|" for turn in turns).split("|"), key=len)
    assert len(longest) <= 3, "smoothly, not one after another"


@given(st.lists(st.sets(PRIORITIES), min_size=4 * ROUND, max_size=8 * ROUND))
def test_the_least_important_gets_its_share_whatever_else_comes(arrivals: list[set[Priority]]) -> None:
    lanes = Lanes(PLACES)
    lanes.add(mail("beta", Priority.P3))
    waited = longest = 0
    for arriving in arrivals:
        for priority in arriving - {Priority.P0, Priority.P3}:
            lanes.add(mail("beta", priority))
        if handle_next(lanes).priority is Priority.P3:
            lanes.add(mail("beta", Priority.P3))  # one waits all the time
            waited = 0
        else:
            waited += 1
            longest = max(longest, waited)

    assert longest < 2 * ROUND


def handle_next(lanes: Lanes) -> Mail:
    begun = lanes.next()
    assert begun is not None
    lanes.end(begun, handled=True)
    return begun


class Post(RuleBasedStateMachine):
    """A messenger that sends what is not done, from the oldest on; mails get lost; a bot handles them."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(PLACES)
        self.log: dict[str, Mail] = {}
        self.in_hand: dict[str, Mail] = {}
        self.done: set[str] = set()
        self.on_way: list[Mail] = []
        self.sessions = 0
        self.waiting: dict[str, Mail] = {}
        self.begin_session()

    @rule(sender=SENDERS, priority=PRIORITIES)
    def send(self, sender: str, priority: Priority) -> None:
        message = mail(sender, priority)
        self.log[message.message_id] = message
        self.push(message)

    @rule(fates=st.lists(st.sampled_from(["comes", "comes", "comes", "is lost"]), min_size=1, max_size=5))
    def bring(self, fates: list[str]) -> None:
        for fate in fates[: len(self.on_way)]:
            coming = self.on_way.pop(0)
            if fate == "comes":
                self.arrive(coming)

    @rule()
    def begin_session(self) -> None:
        """As after a Hello, for whatever reason. What is on its way still arrives, of the old session."""
        self.sessions += 1
        self.lanes.begin_session(str(self.sessions))
        self.indexes: dict[Priority, int] = defaultdict(int)
        for message in self.log.values():
            if message.message_id not in self.done and message.message_id not in self.lanes.held:
                self.push(message)

    @rule()
    def begin(self) -> None:
        while (message := self.lanes.next()) is not None:
            self.note(message)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.in_hand))))

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """It comes again, behind whatever is on its way already."""
        message = self.in_hand.pop(data.draw(st.sampled_from(sorted(self.in_hand))))
        self.lanes.end(message, handled=False, comes_again=True)
        again = msgspec.structs.replace(message, delivery=message.delivery + 1)
        self.log[message.message_id] = again
        self.push(again)

    @invariant()
    def no_more_is_in_hand_than_there_are_places(self) -> None:
        assert set(self.lanes.in_hand) == set(self.in_hand)
        assert len(self.in_hand) <= PLACES + 1

    @invariant()
    def one_of_each_sender_and_priority_is_in_hand(self) -> None:
        lines = [(each.sender, each.priority) for each in self.in_hand.values()]
        assert len(lines) == len(set(lines))

    def teardown(self) -> None:
        """When nothing is lost any more, everything is handled."""
        self.begin_session()
        for _ in range(len(self.log) + 1):
            while self.on_way:
                self.arrive(self.on_way.pop(0))
            self.begin()
            self.end_all()
        assert self.done == set(self.log)

    def end_all(self) -> None:
        for message_id in list(self.in_hand):
            self.finish(message_id)

    def finish(self, message_id: str) -> None:
        self.done.add(message_id)
        self.lanes.end(self.in_hand.pop(message_id), handled=True)

    def push(self, message: Mail) -> None:
        index = self.indexes[message.priority]
        self.indexes[message.priority] += 1
        self.on_way.append(msgspec.structs.replace(message, session=str(self.sessions), index=index))

    def arrive(self, coming: Mail) -> None:
        match self.lanes.arrive(coming):
            case Arrival.NEW:
                self.lanes.add(coming)
                self.waiting[coming.message_id] = coming
            case Arrival.AMISS:
                self.begin_session()
            case Arrival.KNOWN | Arrival.FOREIGN:
                pass

    def note(self, message: Mail) -> None:
        assert message.message_id not in self.done
        assert self.is_next_of_its_line(message)
        del self.waiting[message.message_id]
        urgent = [
            each
            for each in self.waiting.values()
            if each.priority is Priority.P0 and self.is_next_of_its_line(each)
        ]
        assert message.priority is Priority.P0 or not urgent
        self.in_hand[message.message_id] = message

    def is_next_of_its_line(self, message: Mail) -> bool:
        """Whether all that its sender sent before with this priority is done."""
        return all(
            each.sequence >= message.sequence
            for each in self.log.values()
            if each.message_id not in self.done
            and (each.sender, each.priority) == (message.sender, message.priority)
        )


TestPost = Post.TestCase
