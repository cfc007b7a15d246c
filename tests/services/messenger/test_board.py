"""What the board sends, and in which order."""

from time import process_time

import pytest

from services.messenger import reactions
from services.messenger.commands import ExpireMessage
from services.messenger.scene import Moment, Scene
from services.messenger.steps import Decide, Greet, Recall
from shared.contracts.config import Config
from shared.contracts.messenger.commands import (
    MarkRead,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.protocol import Mail
from shared.contracts.naming import partition_of
from shared.contracts.words import LANE_WINDOW, BotId, MessageId, Party, Priority
from tests.services.messenger.builders import ANN, BETA, post, send
from tests.services.messenger.world import World

BOT = "beta"


@pytest.fixture
def world() -> World:
    return World("alpha", BOT)


def ids(mails: list[Mail]) -> list[str]:
    return [mail.message_id for mail in mails]


def take(mail: Mail, *, kept: bool = False) -> TakeMessage:
    return TakeMessage(message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery, kept=kept)


def read(mail: Mail) -> ReadMessage:
    return ReadMessage(message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery)


def give_back(mail: Mail) -> ReturnMessage:
    return ReturnMessage(
        message_id=mail.message_id, bot_id=BETA, delivery=mail.delivery, code="engine", reason="x"
    )


def test_nothing_is_sent_before_a_hello(world: World) -> None:
    world.decide(send("m1"))
    assert world.mail(BOT) == []
    world.hello(BOT, "s1")
    assert ids(world.mail(BOT)) == ["m1"]
    assert world.mail(BOT) == []


def test_nothing_is_sent_to_bots_of_other_owners() -> None:
    world = World(BOT, owned=frozenset(range(128)) - {partition_of(BOT)})
    world.decide(send("m1"))
    world.hello(BOT, "s1")
    assert world.mail(BOT) == []


def test_a_window_of_each_lane_is_sent_and_p0_at_once_before_a_backlog_of_ten_thousand(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(10_000):
        world.decide(post(f"low{number}", priority=Priority.P3))
    assert len(world.mail(BOT)) == LANE_WINDOW
    world.decide(send("urgent", priority=Priority.P0))
    began = process_time()
    (mail,) = world.mail(BOT)
    assert (mail.message_id, mail.index) == ("urgent", 0)
    assert process_time() - began < 0.1


def test_what_was_read_makes_room_for_the_next(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(LANE_WINDOW + 2):
        world.decide(send(f"m{number}"))
    mails = world.mail(BOT)
    world.decide(read(mails[5]))
    world.decide(take(mails[6]))  # for somebody else to read: the bot is done with it
    world.decide(take(mails[7], kept=True))  # this it still has
    assert [(mail.message_id, mail.index) for mail in world.mail(BOT)] == [("m64", 64), ("m65", 65)]


def test_a_new_session_begins_with_the_oldest_and_without_what_is_held(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(4):
        world.decide(send(f"m{number}"))
    mails = world.mail(BOT)
    world.decide(take(mails[1], kept=True))
    world.hello(BOT, "s2", holding=(MessageId("m1"), MessageId("m2")))
    assert [(mail.message_id, mail.index, mail.delivery) for mail in world.mail(BOT)] == [
        ("m0", 0, 1),
        ("m3", 1, 1),
    ]


def test_what_was_kept_and_is_lost_comes_before_what_its_sender_sent_later(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m0"))
    world.decide(take(world.mail(BOT)[0], kept=True))
    world.decide(send("m1"))
    world.decide(post("other"))
    world.hello(BOT, "s2")
    assert [(mail.message_id, mail.delivery) for mail in world.mail(BOT)] == [
        ("m0", 2),
        ("m1", 1),
        ("other", 1),
    ]


def test_a_returned_message_stops_its_sender_until_it_is_tried_again(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m0"))
    world.decide(give_back(world.mail(BOT)[0]))
    world.decide(send("m1"))
    world.decide(send("m2", priority=Priority.P1))
    world.decide(post("other"))
    assert ids(world.mail(BOT)) == ["m2", "other"]
    world.later(2)
    assert [(mail.message_id, mail.delivery) for mail in world.mail(BOT)] == [("m0", 2), ("m1", 1)]


def test_a_returned_message_finds_its_place_though_the_window_is_full(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(LANE_WINDOW + 5):
        world.decide(send(f"m{number}"))
    mails = world.mail(BOT)
    world.decide(post("other"))
    world.decide(give_back(mails[0]))
    assert world.mail(BOT) == []  # its place is kept: the bot may hold back all it has until it comes
    world.later(2)
    assert ids(world.mail(BOT)) == ["m0"]


def test_a_returned_message_finds_its_place_in_a_new_session_too(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(LANE_WINDOW + 5):
        world.decide(send(f"m{number}"))
    mails = world.mail(BOT)
    world.decide(post("other"))
    world.decide(give_back(mails[0]))
    world.hello(BOT, "s2", holding=tuple(mail.message_id for mail in mails[1:]))
    assert world.mail(BOT) == []
    world.later(2)
    assert ids(world.mail(BOT)) == ["m0"]


def test_a_returned_message_whose_sender_has_no_others_there_leaves_its_place(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(post("first"))
    for number in range(LANE_WINDOW):
        world.decide(send(f"m{number}"))
    mails = world.mail(BOT)
    world.decide(give_back(mails[0]))
    assert ids(world.mail(BOT)) == ["m63"]


def test_the_end_of_a_message_that_stopped_its_sender_lets_the_next_go(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m0"))
    (mail,) = world.mail(BOT)
    world.decide(give_back(mail))
    world.decide(send("m1"))
    assert world.mail(BOT) == []
    world.decide(read(mail))  # a late word: it was done after all
    assert ids(world.mail(BOT)) == ["m1"]


def test_the_late_word_of_a_dead_process_does_not_stop_a_sender_for_ever(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m0"))
    (mail,) = world.mail(BOT)
    world.decide(give_back(mail))
    again = ReturnMessage(message_id=mail.message_id, bot_id=BETA, delivery=1, code="x", reason="x")
    assert world.decide(again) == []
    late = TakeMessage(message_id=mail.message_id, bot_id=BETA, delivery=2, kept=True)
    world.decide(late)  # nobody who is there has it
    world.decide(send("m1"))
    assert world.mail(BOT) == []
    world.lose(BOT)
    assert [(mail.message_id, mail.delivery) for mail in world.mail(BOT)] == [("m0", 3), ("m1", 1)]


def test_a_message_marked_read_by_a_person_or_expired_makes_room(world: World) -> None:
    world.hello(BOT, "s1")
    for number in range(LANE_WINDOW + 2):
        world.decide(send(f"m{number}", ttl_s=1.0 if number == 1 else 60.0))
    mails = world.mail(BOT)
    world.decide(take(mails[0], kept=True))
    world.decide(MarkRead(message_id=MessageId("m0"), reader=ANN))
    world.later(2)
    world.decide(ExpireMessage(message_id=MessageId("m1")))
    assert ids(world.mail(BOT)) == ["m64", "m65"]


def test_words_that_memory_has_no_room_for_are_read_when_it_is_time() -> None:
    world = World(BOT, letter_chars_max=10)
    for number in range(200):
        world.decide(send(f"m{number}", content="hello"))
    world.hello(BOT, "s1")
    assert ids(world.mail(BOT)) == [f"m{number}" for number in range(LANE_WINDOW)]


def test_a_failed_message_that_is_put_back_is_sent_again(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m0", deliveries_max=1))
    (mail,) = world.mail(BOT)
    world.decide(give_back(mail))
    assert world.board.unread(BETA) == 0
    replay = ReplayMessage(message_id=MessageId("m0"), sender=ANN, recipient=Party(BETA), content="")
    world.decide(replay)
    assert world.board.unread(BETA) == 1
    assert [(mail.message_id, mail.delivery) for mail in world.mail(BOT)] == [("m0", 2)]


def test_a_failed_message_that_memory_has_no_place_for_is_read_again_when_it_is_put_back() -> None:
    world = World("alpha", BOT, failed_max=1)
    scene = Scene(board=world.board)
    world.hello(BOT, "s1")
    for name in ("m0", "m1"):
        world.decide(send(name, deliveries_max=1))
        (mail,) = world.mail(BOT)
        world.decide(give_back(mail))
    assert world.board.messages.keys() == {"m1"}

    world.decide(ReplayMessage(message_id=MessageId("m0"), sender=ANN, recipient=Party(BETA), content=""))
    moment = Moment(world.at, world.mono, Config())
    assert Recall(MessageId("m0")) in reactions.passed(scene, moment)
    world.board.recall(MessageId("m0"), world.log[MessageId("m0")])

    assert Recall(MessageId("m0")) not in reactions.passed(scene, moment)
    assert [(mail.message_id, mail.delivery) for mail in world.mail(BOT)] == [("m0", 2)]
    assert world.board.unread(BETA) == 1


def test_a_message_that_was_put_back_and_read_meanwhile_is_not_sent() -> None:
    world = World("alpha", BOT, failed_max=1)
    world.hello(BOT, "s1")
    mails = []
    for name in ("m0", "m1"):
        world.decide(send(name, deliveries_max=1))
        mails += world.mail(BOT)
        world.decide(give_back(mails[-1]))
    world.decide(ReplayMessage(message_id=MessageId("m0"), sender=ANN, recipient=Party(BETA), content=""))
    world.decide(read(mails[0]))
    world.board.recall(MessageId("m0"), world.log[MessageId("m0")])

    assert (world.mail(BOT), world.board.unread(BETA), world.board.recalled) == ([], 0, set())


def test_a_place_in_an_inbox_is_counted_once_from_the_question_to_the_log(world: World) -> None:
    board = world.board
    board.reserve(MessageId("m1"), BETA)
    board.reserve(MessageId("m1"), BETA)
    board.reserve(MessageId("m2"), BETA)
    assert board.unread(BETA) == 2
    world.decide(send("m1"))
    assert board.unread(BETA) == 2
    board.release(MessageId("m2"))
    board.release(MessageId("m1"))
    assert board.unread(BETA) == 1


def test_messages_to_people_are_not_kept_in_memory(world: World) -> None:
    world.decide(send("m1", recipient=ANN))
    assert (world.board.messages, world.board.boxes) == ({}, {})


def test_tens_of_thousands_of_waiting_messages_cost_nothing_when_nothing_is_due(world: World) -> None:
    for number in range(30_000):
        world.decide(send(f"m{number}", recipient=f"bot{number % 100}"))
    scene, moment = Scene(board=world.board), Moment(world.at, world.mono, Config())
    reactions.todo(scene, moment)
    began = process_time()
    for _ in range(100):
        assert reactions.passed(scene, moment) == []
    assert (process_time() - began) / 100 < 0.001


def test_whoever_has_something_to_get_and_no_session_is_greeted_and_later_less_often(world: World) -> None:
    world.decide(send("m1"))
    scene = Scene(board=world.board)
    greeted: list[float] = []
    for quarter in range(4 * 70):
        moment = Moment(world.at, quarter / 4, Config())
        steps = reactions.todo(scene, moment)
        greeted += [quarter / 4 for step in steps if step == Greet(BETA)]
    assert greeted == [0.0, 1.0, 3.0, 33.0, 63.0]
    world.hello(BOT, "s1")
    scene.greetings.drop(BETA)
    assert reactions.todo(scene, Moment(world.at, 100.0, Config())) == []


def test_a_bot_that_does_not_take_its_mail_in_time_is_greeted(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("m1"))
    (mail,) = world.mail(BOT)
    scene = Scene(board=world.board)
    assert reactions.todo(scene, Moment(world.at, 5.0, Config())) == []
    assert reactions.todo(scene, Moment(world.at, 5.1, Config())) == [Greet(BETA)]
    world.decide(take(mail, kept=True))
    assert reactions.todo(scene, Moment(world.at, 50.0, Config())) == []


def test_what_is_over_is_expired_at_once_or_when_its_keeper_is_not_there(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("kept", ttl_s=10.0))
    world.decide(take(world.mail(BOT)[0], kept=True))
    world.decide(send("waits", ttl_s=10.0))
    world.later(11)
    scene = Scene(board=world.board)

    def expiring(mono: float) -> list[ExpireMessage]:
        steps = reactions.todo(scene, Moment(world.at, mono, Config()))
        return [
            step.command
            for step in steps
            if isinstance(step, Decide) and isinstance(step.command, ExpireMessage)
        ]

    waits, kept = MessageId("waits"), MessageId("kept")
    assert expiring(0.0) == [ExpireMessage(message_id=waits)]
    world.decide(ExpireMessage(message_id=waits))
    assert expiring(1.0) == []
    world.board.end_sessions()
    assert expiring(2.0) == []
    assert expiring(12.0) == [ExpireMessage(message_id=kept, absent=True)]


def test_a_bot_that_died_in_silence_is_doubted_when_what_it_keeps_is_over(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("kept", ttl_s=60.0))
    world.decide(take(world.mail(BOT)[0], kept=True))
    world.later(66)
    scene = Scene(board=world.board)
    assert reactions.todo(scene, Moment(world.at, 66.0, Config())) == [Greet(BETA)]
    (step,) = (
        each for each in reactions.todo(scene, Moment(world.at, 77.0, Config())) if isinstance(each, Decide)
    )
    assert step.command == ExpireMessage(message_id=MessageId("kept"), absent=True)


def test_a_bot_that_works_on_what_is_over_is_asked_now_and_then(world: World) -> None:
    world.hello(BOT, "s1")
    world.decide(send("kept", ttl_s=60.0))
    world.decide(take(world.mail(BOT)[0], kept=True))
    world.later(70)
    scene, asked = Scene(board=world.board), 0
    for _ in range(4 * 100):
        world.later(0.25)
        steps = reactions.todo(scene, Moment(world.at, world.mono, Config()))
        assert not any(isinstance(step, Decide) for step in steps)
        if Greet(BETA) in steps:
            asked += 1
            world.hello(BOT, f"s{asked + 1}", holding=(MessageId("kept"),))
            scene.greetings.drop(BETA)
    assert asked == 4


def test_a_name_that_is_no_bots_is_forgotten_with_what_was_held_for_it(world: World) -> None:
    world.decide(send("m1", recipient="nobody", ttl_s=1.0))
    world.later(2)
    world.decide(ExpireMessage(message_id=MessageId("m1")))
    assert world.board.boxes == {}


def test_lost_partitions_end_the_sessions_of_their_bots(world: World) -> None:
    world.hello(BOT, "s1")
    world.board.own_partitions(frozenset())
    assert world.board.sessions == {}
    world.decide(send("m1"))
    assert world.mail(BOT) == []
    world.board.own_partitions(frozenset({partition_of(BotId(BOT))}))
    world.hello(BOT, "s2")
    assert ids(world.mail(BOT)) == ["m1"]
