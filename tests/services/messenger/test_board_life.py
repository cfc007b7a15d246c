"""Messages, sessions, deaths and time as they come: order, window, and that nothing is lost, hold."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.messenger import reactions
from services.messenger.commands import ExpireMessage
from services.messenger.decider.message_state import Delivered, Expired, Failed, Pending, Read
from services.messenger.scene import Moment, Scene
from services.messenger.steps import Decide
from shared.contracts.config import Config
from shared.contracts.messenger.commands import (
    MarkRead,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.protocol import Mail
from shared.contracts.words import MessageId, Party, Priority
from tests.services.messenger.builders import ANN, BETA, send
from tests.services.messenger.world import World

BOT = "beta"
WINDOW = 3
senders = st.sampled_from(["alpha", "gamma"])
priorities = st.sampled_from([Priority.P0, Priority.P2])
picks = st.integers(0, 50)


class BoardLife(RuleBasedStateMachine):
    """One bot, two senders, two lanes, a window of three."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World("alpha", BOT, "gamma", window=WINDOW, letter_chars_max=12)
        self.sent = 0
        self.sessions = 0
        self.begin_session(())

    def begin_session(self, holding: tuple[MessageId, ...]) -> None:
        self.sessions += 1
        self.next_index = dict.fromkeys(Priority, 0)
        self.seen: list[Mail] = []
        self.has = {message_id: self.has[message_id] for message_id in holding} if holding else {}
        self.world.hello(BOT, f"s{self.sessions}", holding)
        self.pump()

    has: dict[MessageId, Mail]

    def pump(self) -> None:
        """The bot gets what may go, and checks what it was promised."""
        if self.world.board.boxes[BETA].session is None:
            return
        for mail in self.world.mail(BOT):
            assert mail.session == f"s{self.sessions}"
            assert mail.index == self.next_index[mail.priority]
            self.next_index[mail.priority] += 1
            self.check_order(mail)
            self.seen.append(mail)
            assert mail.message_id not in self.has
            self.has[mail.message_id] = mail
            in_lane = [each for each in self.has.values() if each.priority is mail.priority]
            assert len(in_lane) <= WINDOW

    def check_order(self, mail: Mail) -> None:
        """No later one of its sender and priority came before it, unless it was returned or put back."""
        earlier = [each for each in self.seen if each.message_id == mail.message_id]
        assert all(each.delivery < mail.delivery for each in earlier), "sent twice in a session"
        overtaken = any(
            each.sender == mail.sender and each.priority is mail.priority and each.sequence > mail.sequence
            for each in self.seen
        )
        comes_again = mail.delivery > 1
        assert not overtaken or comes_again or mail.message_id in self.put_back

    @initialize()
    def begin(self) -> None:
        self.put_back: set[MessageId] = set()

    @rule(sender=senders, priority=priorities, ttl=st.sampled_from([30.0, 3600.0]))
    def send(self, sender: str, priority: Priority, ttl: float) -> None:
        self.sent += 1
        fields = {"sender": Party(sender), "priority": priority, "ttl_s": ttl, "deliveries_max": 3}
        assert self.world.decide(send(f"m{self.sent}", **fields))
        self.pump()

    @precondition(lambda self: self.has)
    @rule(pick=picks, kept=st.booleans())
    def take(self, pick: int, kept: bool) -> None:  # noqa: FBT001 - a strategy's value
        mail = self.picked(pick)
        self.world.decide(
            TakeMessage(message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery, kept=kept)
        )
        if not kept:
            del self.has[mail.message_id]
        self.pump()

    @precondition(lambda self: self.has)
    @rule(pick=picks)
    def read(self, pick: int) -> None:
        mail = self.picked(pick)
        del self.has[mail.message_id]
        self.world.decide(ReadMessage(message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery))
        self.pump()

    @precondition(lambda self: self.has)
    @rule(pick=picks, retryable=st.sampled_from([True, True, False]))
    def give_back(self, pick: int, retryable: bool) -> None:  # noqa: FBT001 - a strategy's value
        mail = self.picked(pick)
        del self.has[mail.message_id]
        self.world.decide(
            ReturnMessage(
                message_id=mail.message_id,
                bot_id=BETA,
                delivery=mail.delivery,
                code="engine",
                reason="x",
                retryable=retryable,
            )
        )
        self.pump()

    @rule(pick=picks, kept=st.booleans())
    def a_dead_process_speaks(self, pick: int, kept: bool) -> None:  # noqa: FBT001 - a strategy's value
        """What an earlier process said is heard only now."""
        message_id = MessageId(f"m{pick % (self.sent + 1)}")
        state = self.world.states.get(message_id)
        if isinstance(state, Pending) and message_id not in self.has:
            delivery = state.delivery
            if kept:
                self.world.decide(
                    TakeMessage(message_id=message_id, bot_id=BETA, delivery=delivery, kept=True)
                )
            else:
                self.world.decide(ReadMessage(message_id=message_id, bot_id=BETA, delivery=delivery))
        self.world.lose(BOT)
        self.pump()

    @rule(pick=picks)
    def a_person_reads(self, pick: int) -> None:
        message_id = MessageId(f"m{pick % (self.sent + 1)}")
        if self.world.decide(MarkRead(message_id=message_id, reader=ANN)):
            self.has.pop(message_id, None)
        self.pump()

    @rule(pick=picks)
    def a_dead_letter_is_put_back(self, pick: int) -> None:
        message_id = MessageId(f"m{pick % (self.sent + 1)}")
        replay = ReplayMessage(message_id=message_id, sender=ANN, recipient=Party(BETA), content="")
        if isinstance(self.world.states.get(message_id), Failed):
            self.put_back.add(message_id)
        self.world.decide(replay)
        self.pump()

    @rule(keep=st.booleans())
    def hello_anew(self, keep: bool) -> None:  # noqa: FBT001 - a strategy's value
        """It missed a mail, or its process died."""
        self.begin_session(tuple(self.has) if keep else ())

    @rule(keep=st.booleans())
    def the_messenger_forgets_the_session(self, keep: bool) -> None:  # noqa: FBT001 - a strategy's value
        self.world.board.end_sessions()
        self.begin_session(tuple(self.has) if keep else ())

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)
        scene = Scene(board=self.world.board)
        for step in reactions.passed(scene, Moment(self.world.at, self.world.mono, Config())):
            if isinstance(step, Decide) and isinstance(step.command, ExpireMessage):
                assert self.world.decide(step.command)
        for message_id in list(self.has):
            if isinstance(self.world.states[message_id], Expired):
                del self.has[message_id]
        self.pump()

    def picked(self, pick: int) -> Mail:
        return list(self.has.values())[pick % len(self.has)]

    @invariant()
    def unread_is_exact(self) -> None:
        unread = sum(isinstance(state, Pending | Delivered) for state in self.world.states.values())
        assert self.world.board.unread(BETA) == unread

    @invariant()
    def memory_holds_what_has_not_ended(self) -> None:
        ended = {key for key, state in self.world.states.items() if isinstance(state, Read | Expired)}
        assert self.world.board.messages.keys() == self.world.states.keys() - ended

    @invariant()
    def what_waits_is_counted(self) -> None:
        box = self.world.board.boxes[BETA]
        places = [entry.place.value for entry in self.world.board.messages.values()]
        assert sum(lane.waiting for lane in box.lanes) == places.count("waiting")
        assert sum(len(lane.out) for lane in box.lanes) == places.count("out")

    def teardown(self) -> None:
        """Whatever happened, a bot that reads on gets everything in the end."""
        self.world.later(3600 if not self.sent else 61)
        self.begin_session(())
        for _ in range(20 * (self.sent + 1)):
            for mail in list(self.has.values()):
                del self.has[mail.message_id]
                self.world.decide(
                    ReadMessage(message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery)
                )
            self.world.later(31)
            self.pump()
        open_states = [
            state
            for state in self.world.states.values()
            if isinstance(state, Pending) or (isinstance(state, Delivered) and state.kept)
        ]
        assert open_states == []
        assert self.world.board.messages.keys() == {
            key for key, state in self.world.states.items() if isinstance(state, Failed | Delivered)
        }


TestBoardLife = BoardLife.TestCase
