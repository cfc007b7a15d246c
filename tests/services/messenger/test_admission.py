"""Who may get messages, and how many."""

import pytest

from services.messenger.admission import Admission
from services.messenger.board import Board
from services.messenger.commands import AdmitMessage, MessageWish, OpenBroadcast, TakeBack
from services.messenger.decider import BROADCAST, MESSAGE
from services.messenger.facts import BotHeard, KeyHeard
from shared.contracts.config import Config
from shared.contracts.gateway import KeyCreated, KeyRevoked
from shared.contracts.messenger.commands import ReturnMessage, SendMessage
from shared.contracts.orchestrator.facts import BotLaunched, BotRetired, BotSpec
from shared.contracts.words import BotId, KeyId, MessageId, Party, Priority, TaskType
from shared.kernel.errors import Rejected
from tests.services.messenger.builders import ALPHA, BETA, broadcast, post, send
from tests.support.scenario import NOON


class Gate:
    def __init__(self) -> None:
        self.board = Board()
        self.config = Config()
        self.admission = Admission(self.board, lambda: self.config)
        self.hear(
            launched("alpha", pool="coders"), launched("beta", types=(TaskType.CODE,)), launched("gamma")
        )
        self.hear(key("k1", "ann"))

    def hear(self, *facts: BotHeard | KeyHeard) -> None:
        for fact in facts:
            if isinstance(fact, KeyCreated | KeyRevoked):
                self.board.directory.hear_key(fact)
            else:
                self.board.directory.hear_bot(fact)

    def admit(self, wish: MessageWish) -> AdmitMessage:
        prepared = self.admission.prepare(MESSAGE.initial, wish)
        assert isinstance(prepared, AdmitMessage)
        return prepared

    def refusal(self, wish: MessageWish) -> str | None:
        refusal = self.admit(wish).refusal
        return None if refusal is None else refusal.code

    def recipients(self, **wanted: str) -> tuple[BotId, ...]:
        wish = self.admission.prepare_broadcast(BROADCAST.initial, broadcast(**wanted))
        assert isinstance(wish, OpenBroadcast)
        return wish.recipients


def launched(name: str, pool: str = "default", types: tuple[TaskType, ...] = ()) -> BotLaunched:
    return BotLaunched(bot_id=BotId(name), spec=BotSpec(engine="echo", pool=pool, types=types), generation=1)


def key(key_id: str, name: str) -> KeyCreated:
    return KeyCreated(key_id=KeyId(key_id), name=name, kind="api", prefix="h", secret_hash="", scopes=())


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_bots_and_people_that_are_there_get_messages(gate: Gate) -> None:
    for recipient in ("alpha", "beta", "@ann"):
        assert gate.refusal(send(recipient=recipient)) is None


def test_who_is_not_there_gets_none_and_the_nearest_names_are_told(gate: Gate) -> None:
    refusal = gate.admit(send(recipient="bett")).refusal
    assert refusal is not None
    assert (refusal.code, "beta" in refusal.detail) == ("recipient_unknown", True)
    refusal = gate.admit(post(recipient="@an")).refusal
    assert refusal is not None
    assert "@ann" in refusal.detail


def test_nobody_speaks_for_a_bot_that_is_not_there_and_the_nearest_names_are_told(gate: Gate) -> None:
    refusal = gate.admit(send(sender=Party("alfa"))).refusal
    assert refusal is not None
    assert (refusal.code, "alpha" in refusal.detail) == ("sender_unknown", True)
    assert gate.refusal(send(sender=Party("alfa"), hold=True)) == "sender_unknown"
    assert gate.refusal(send(sender=Party("alpha"))) is None
    assert gate.refusal(send(sender=Party("@nobody-here"))) is None


def test_a_broadcast_of_a_bot_that_is_not_there_is_refused(gate: Gate) -> None:
    wish = gate.admission.prepare_broadcast(BROADCAST.initial, broadcast(sender=Party("alfa")))
    with pytest.raises(Rejected, match="sender_unknown"):
        BROADCAST.decide(BROADCAST.initial, wish, NOON)


def test_what_a_bot_broadcast_before_it_was_retired_is_spread_to_the_end(gate: Gate) -> None:
    gate.hear(BotRetired(bot_id=ALPHA, generation=1))
    assert gate.refusal(send(sender=Party("alpha"), broadcast="b1")) is None


def test_a_message_may_be_held_for_a_name_that_is_not_there_yet(gate: Gate) -> None:
    admitted = gate.admit(send(recipient="delta", hold=True))
    assert (admitted.refusal, admitted.held) == (None, True)
    assert not gate.admit(send(hold=True)).held


def test_a_retired_bot_gets_none_until_it_is_launched_again(gate: Gate) -> None:
    gate.hear(BotRetired(bot_id=BETA, generation=1))
    assert gate.refusal(send()) == "recipient_unknown"
    gate.hear(launched("beta"))
    assert gate.refusal(send()) is None


def test_a_person_is_known_as_long_as_there_is_a_key_of_that_name(gate: Gate) -> None:
    gate.hear(key("k2", "ann"), KeyRevoked(key_id=KeyId("k1"), reason="asked"))
    assert gate.refusal(send(recipient="@ann")) is None
    gate.hear(KeyRevoked(key_id=KeyId("k2"), reason="asked"), KeyRevoked(key_id=KeyId("k2"), reason="again"))
    assert gate.refusal(send(recipient="@ann")) == "recipient_unknown"


def test_a_full_inbox_takes_what_is_critical_only_and_counts_what_is_being_decided(gate: Gate) -> None:
    gate.config = Config(inbox_max=2)
    first, second = gate.admit(send("m1")), gate.admit(send("m2"))
    assert (first.refusal, second.refusal) == (None, None)
    assert gate.refusal(send("m3")) == "inbox_full"
    assert gate.refusal(post("m4", priority=Priority.P1)) == "inbox_full"
    assert gate.refusal(send("m5", recipient="@ann")) is None
    gate.admission.released(first)
    assert gate.refusal(send("m3")) is None
    assert gate.refusal(send("m6", priority=Priority.P0)) is None
    assert gate.refusal(send("m7")) == "inbox_full"


def test_what_is_refused_takes_no_place(gate: Gate) -> None:
    gate.config = Config(inbox_max=1)
    gate.admit(send("m1"))
    refused = gate.admit(send("m2"))
    gate.admission.released(refused)
    assert gate.board.unread(BETA) == 1


def test_a_message_that_exists_needs_no_admission(gate: Gate) -> None:
    sent = MESSAGE.decide(MESSAGE.initial, send(), NOON)[0]
    state = MESSAGE.evolve(MESSAGE.initial, sent, 1, NOON)
    assert isinstance(gate.admission.prepare(state, send()), SendMessage)
    assert gate.board.unread(BETA) == 0


def test_what_is_returned_waits_as_long_as_the_configuration_says(gate: Gate) -> None:
    gate.config = Config(message_backoff_first_s=7.0, message_backoff_max_s=9.0)
    wish = ReturnMessage(message_id=MessageId("m1"), bot_id=BETA, delivery=1, code="x", reason="x")
    prepared = gate.admission.prepare(MESSAGE.initial, wish)
    assert isinstance(prepared, TakeBack)
    assert (prepared.wish, prepared.backoff_first_s, prepared.backoff_max_s) == (wish, 7.0, 9.0)


def test_a_broadcast_goes_to_a_pool_to_those_who_do_a_type_or_to_all_but_its_sender(gate: Gate) -> None:
    assert gate.recipients() == ("alpha", "beta", "gamma")
    assert gate.recipients(pool="coders") == ("alpha",)
    assert gate.recipients(type="code") == ("alpha", "beta", "gamma")
    assert gate.recipients(type="writing") == ("alpha", "gamma")
    assert gate.recipients(sender=Party("beta")) == ("alpha", "gamma")
    assert gate.recipients(pool="nobody") == ()
