"""The rules of one message, told as sentences."""

from datetime import timedelta
from typing import Any

import pytest

from services.messenger.commands import (
    AdmitMessage,
    ExpireMessage,
    LoseDelivery,
    MessageWish,
    Refusal,
    TakeBack,
)
from services.messenger.decider import MESSAGE
from services.messenger.facts import MessageEvent
from shared.contracts.messenger.commands import (
    LetExpire,
    MarkRead,
    ReadMessage,
    ReplayMessage,
    ReturnMessage,
    TakeMessage,
)
from shared.contracts.messenger.facts import (
    MessageDelivered,
    MessageError,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageReplayed,
    MessageReturned,
    MessageSent,
)
from shared.contracts.words import BotId, MessageId, Party, Priority
from tests.services.messenger.builders import ALPHA, ANN, BETA, post, send
from tests.support.scenario import NOON, given

M1 = MessageId("m1")
SENT = MESSAGE.decide(MESSAGE.initial, send(ttl_s=60.0), NOON)[0]
LATER = NOON + timedelta(seconds=61)
READ = MessageRead(message_id=M1, reader=Party(BETA))
DELIVERED = MessageDelivered(message_id=M1, delivery=1)
KEPT = MessageDelivered(message_id=M1, delivery=1, kept=True)
RETURNED = MessageReturned(message_id=M1, delivery=2, reason="engine: x", retry_at=NOON, counts=True)
LOST = MessageReturned(message_id=M1, delivery=2, reason="process_ended: x", retry_at=NOON, counts=False)
FAILED = MessageFailed(message_id=M1, code="engine", reason="x")
EXPIRED = MessageExpired(message_id=M1)


def take(delivery: int = 1, *, bot: str = BETA, kept: bool = False) -> TakeMessage:
    return TakeMessage(message_id=M1, bot_id=BotId(bot), delivery=delivery, kept=kept)


def read(delivery: int = 1, *, bot: str = BETA) -> ReadMessage:
    return ReadMessage(message_id=M1, bot_id=BotId(bot), delivery=delivery)


def give_back(delivery: int = 1, *, bot: str = BETA, **changed: Any) -> ReturnMessage:
    fields: dict[str, Any] = {"code": "engine", "reason": "x"}
    return ReturnMessage(message_id=M1, bot_id=BotId(bot), delivery=delivery, **{**fields, **changed})


def let_expire(delivery: int = 1, *, bot: str = BETA) -> LetExpire:
    return LetExpire(message_id=M1, bot_id=BotId(bot), delivery=delivery)


def replay() -> ReplayMessage:
    return ReplayMessage(message_id=M1, sender=ANN, recipient=Party(BETA), content="hello")


def test_a_message_to_a_bot_waits_for_it() -> None:
    wish = send(ttl_s=60.0, in_reply_to="m0", broadcast="b1", deliveries_max=5)
    (sent,) = given(MESSAGE).when(wish).then_kinds(MessageSent)
    assert isinstance(sent, MessageSent)
    assert sent.expires_at == NOON + timedelta(seconds=60)
    assert (sent.in_reply_to, sent.broadcast, sent.deliveries_max, sent.held) == ("m0", "b1", 5, False)


def test_a_message_to_a_person_is_delivered_at_once() -> None:
    given(MESSAGE).when(post(recipient=ANN)).then_kinds(MessageSent, MessageDelivered)


def test_what_a_bot_posts_is_from_the_bot_and_may_say_that_there_is_no_answer() -> None:
    error = MessageError(code="engine_failed", detail="exit 1")
    (sent,) = given(MESSAGE).when(post(error=error)).then_kinds(MessageSent)
    assert isinstance(sent, MessageSent)
    assert (sent.sender, sent.error, sent.body_hash) == (Party(ALPHA), error, "")


def test_a_message_for_a_name_that_nobody_has_yet_is_held() -> None:
    (sent,) = given(MESSAGE).when(AdmitMessage(message_id=M1, wish=send(), held=True)).then_kinds(MessageSent)
    assert isinstance(sent, MessageSent)
    assert sent.held


def test_what_may_not_come_in_is_refused() -> None:
    full = AdmitMessage(message_id=M1, wish=send(), refusal=Refusal("inbox_full", "no room"))
    given(MESSAGE).when(full).then_rejected("inbox_full")


def test_the_same_message_again_is_already_so_and_another_under_its_id_is_refused() -> None:
    given(MESSAGE, SENT).when(send(ttl_s=60.0)).then_nothing()
    given(MESSAGE, SENT).when(send(body_hash="another")).then_rejected("message_exists")
    given(MESSAGE, SENT).when(send(sender=Party("@bob"))).then_rejected("message_exists")
    given(MESSAGE, SENT).when(post()).then_rejected("message_exists")
    posted = MESSAGE.decide(MESSAGE.initial, post(), NOON)[0]
    given(MESSAGE, posted).when(post()).then_nothing()
    given(MESSAGE, posted).when(post(bot_id="gamma")).then_rejected("message_exists")
    given(MESSAGE, posted, KEPT, READ).when(post()).then_nothing()


def test_full_or_not_the_same_message_again_is_already_so() -> None:
    again = AdmitMessage(message_id=M1, wish=send(ttl_s=60.0), refusal=Refusal("inbox_full", ""))
    given(MESSAGE, SENT).when(again).then_nothing()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"message_id": "no dots."}, "bad_message_id"),
        ({"recipient": "no.dots"}, "bad_recipient"),
        ({"recipient": "@"}, "bad_recipient"),
        ({"recipient": "@line\nend"}, "bad_recipient"),
        ({"content": ""}, "bad_content"),
        ({"content": "x" * 10_001}, "bad_content"),
        ({"content": "a\0b"}, "bad_content"),
        ({"ttl_s": 0.5}, "bad_ttl_s"),
        ({"ttl_s": 31 * 86_400.0}, "bad_ttl_s"),
        ({"deliveries_max": 0}, "bad_deliveries_max"),
        ({"deliveries_max": 21}, "bad_deliveries_max"),
        ({"in_reply_to": "a b"}, "bad_in_reply_to"),
        ({"error": MessageError(code="spaces in it", detail="")}, "bad_code"),
        ({"error": MessageError(code="x", detail="x" * 2_001)}, "bad_reason"),
    ],
)
def test_what_a_bot_sends_is_checked_and_the_code_names_the_field(changed: dict[str, Any], code: str) -> None:
    given(MESSAGE).when(post(**changed)).then_rejected(code)


def test_the_longest_and_the_shortest_may_be_sent() -> None:
    for wish in (post(content="x" * 10_000), post(content="x"), post(ttl_s=1.0), post(ttl_s=30 * 86_400.0)):
        given(MESSAGE).when(wish).then_kinds(MessageSent)


def test_a_message_is_taken_and_then_read() -> None:
    given(MESSAGE, SENT).when(take()).then(DELIVERED)
    given(MESSAGE, SENT).when(take(kept=True)).then(KEPT)
    given(MESSAGE, SENT, KEPT).when(take(kept=True)).then_nothing()
    given(MESSAGE, SENT, KEPT).when(take()).then(DELIVERED)  # it will be read by somebody else after all
    given(MESSAGE, SENT, DELIVERED).when(take(kept=True)).then_nothing()
    given(MESSAGE, SENT, KEPT).when(read()).then(READ)
    given(MESSAGE, SENT, KEPT, READ).when(read()).then_nothing()


def test_reading_a_pending_message_says_that_it_was_delivered_too() -> None:
    given(MESSAGE, SENT).when(read()).then(DELIVERED, READ)


def test_only_the_recipient_may_speak_of_it() -> None:
    wishes: list[MessageWish] = [
        take(bot=ALPHA),
        read(bot=ALPHA),
        give_back(bot=ALPHA),
        let_expire(bot=ALPHA),
    ]
    for wish in wishes:
        given(MESSAGE, SENT).when(wish).then_rejected("not_recipient")
        given(MESSAGE).when(wish).then_rejected("message_not_found")


def test_a_delivery_that_never_was_cannot_be_spoken_of() -> None:
    for wish in (take(2), read(0), give_back(7), let_expire(2)):
        given(MESSAGE, SENT).when(wish).then_rejected("unknown_delivery")


def test_late_words_of_a_lost_delivery_change_nothing_but_that_it_was_read() -> None:
    past = given(MESSAGE, SENT, KEPT, LOST)
    past.when(take(1)).then_nothing()
    past.when(give_back(1)).then_nothing()
    past.when(let_expire(1)).then_nothing()
    past.when(read(1)).then(DELIVERED, READ)
    given(MESSAGE, SENT, KEPT, LOST, MessageDelivered(message_id=M1, delivery=2, kept=True)).when(
        read(1)
    ).then(READ)


def test_what_was_handled_counts_as_read_though_it_had_expired_or_failed() -> None:
    given(MESSAGE, SENT, EXPIRED).when(read()).then(READ)
    given(MESSAGE, SENT, KEPT, FAILED).when(read()).then(READ)


def test_a_returned_message_is_tried_again_later_and_later() -> None:
    config = {"backoff_first_s": 1.0, "backoff_max_s": 3.0}
    first = TakeBack(message_id=M1, wish=give_back(), **config)
    (returned,) = given(MESSAGE, SENT, KEPT).when(first).then_kinds(MessageReturned)
    assert isinstance(returned, MessageReturned)
    assert (returned.delivery, returned.counts, returned.reason) == (2, True, "engine: x")
    assert timedelta(seconds=0.5) <= returned.retry_at - NOON <= timedelta(seconds=1)
    second = TakeBack(message_id=M1, wish=give_back(2), **config)
    kept_again = MessageDelivered(message_id=M1, delivery=2, kept=True)
    (returned,) = given(MESSAGE, SENT, KEPT, RETURNED, kept_again).when(second).then_kinds(MessageReturned)
    assert isinstance(returned, MessageReturned)
    assert timedelta(seconds=1) <= returned.retry_at - NOON <= timedelta(seconds=2)


def test_returning_a_pending_message_says_that_it_was_delivered_too() -> None:
    given(MESSAGE, SENT).when(give_back()).then_kinds(MessageDelivered, MessageReturned)


def test_the_last_delivery_in_vain_fails_it() -> None:
    second, third = (MessageDelivered(message_id=M1, delivery=number) for number in (2, 3))
    returned = MessageReturned(message_id=M1, delivery=3, reason="x", retry_at=NOON, counts=True)
    past = given(MESSAGE, SENT, DELIVERED, RETURNED, second, returned, third)
    past.when(give_back(3)).then(FAILED)


def test_deliveries_that_were_lost_on_their_way_do_not_count() -> None:
    second, third = (MessageDelivered(message_id=M1, delivery=number) for number in (2, 3))
    lost = MessageReturned(message_id=M1, delivery=3, reason="x", retry_at=NOON, counts=False)
    given(MESSAGE, SENT, KEPT, LOST, second, lost, third).when(give_back(3)).then_kinds(MessageReturned)


def test_what_would_fail_alike_again_fails_at_once() -> None:
    given(MESSAGE, SENT, KEPT).when(give_back(retryable=False)).then(FAILED)


def test_what_a_bot_says_of_its_failure_has_a_limit() -> None:
    given(MESSAGE, SENT, KEPT).when(give_back(reason="x" * 2_001)).then_rejected("bad_reason")
    given(MESSAGE, SENT, KEPT).when(give_back(code="")).then_rejected("bad_code")


def test_what_a_dead_process_had_taken_comes_again_at_once() -> None:
    lose = LoseDelivery(message_id=M1, delivery=1, counts=False)
    (returned,) = given(MESSAGE, SENT, KEPT).when(lose).then_kinds(MessageReturned)
    assert isinstance(returned, MessageReturned)
    assert (returned.retry_at, returned.counts, returned.delivery) == (NOON, False, 2)
    for past in (given(MESSAGE, SENT), given(MESSAGE, SENT, DELIVERED), given(MESSAGE, SENT, KEPT, READ)):
        past.when(lose).then_nothing()
    given(MESSAGE, SENT, KEPT, LOST).when(lose).then_nothing()


def test_a_message_that_kills_its_process_fails_in_the_end() -> None:
    commits: list[MessageEvent] = [SENT]
    for delivery in (1, 2, 3):
        commits.append(MessageDelivered(message_id=M1, delivery=delivery, kept=True))
        lose = LoseDelivery(message_id=M1, delivery=delivery, counts=True)
        answered = given(MESSAGE, *commits).when(lose)
        commits += answered.then_kinds(MessageFailed if delivery == 3 else MessageReturned)


def test_a_message_expires_while_nobody_has_seen_it() -> None:
    expire = ExpireMessage(message_id=M1)
    given(MESSAGE, SENT).when(expire).then_nothing()
    given(MESSAGE, SENT).when(expire, at=LATER).then(EXPIRED)
    given(MESSAGE, SENT, KEPT, RETURNED).when(expire, at=LATER).then(EXPIRED)
    for past in (
        given(MESSAGE, SENT, DELIVERED),
        given(MESSAGE, SENT, KEPT),
        given(MESSAGE, SENT, KEPT, READ),
    ):
        past.when(expire, at=LATER).then_nothing()


def test_what_a_bot_keeps_expires_by_its_word_or_when_it_is_not_there() -> None:
    past = given(MESSAGE, SENT, KEPT)
    past.when(let_expire()).then_rejected("not_expired")
    past.when(let_expire(), at=LATER).then(EXPIRED)
    past.when(ExpireMessage(message_id=M1, absent=True), at=LATER).then(EXPIRED)
    given(MESSAGE, SENT).when(let_expire(), at=LATER).then(EXPIRED)
    given(MESSAGE, SENT, DELIVERED).when(ExpireMessage(message_id=M1, absent=True), at=LATER).then_nothing()


def test_a_person_reads_what_was_delivered() -> None:
    mark = MarkRead(message_id=M1, reader=ANN)
    given(MESSAGE, SENT, DELIVERED).when(mark).then(MessageRead(message_id=M1, reader=ANN))
    given(MESSAGE, SENT, DELIVERED, READ).when(mark).then_nothing()
    given(MESSAGE, SENT).when(mark).then_rejected("not_delivered")
    given(MESSAGE, SENT, EXPIRED).when(mark).then_rejected("message_ended")
    given(MESSAGE, SENT, KEPT, FAILED).when(mark).then_rejected("message_ended")
    given(MESSAGE).when(mark).then_rejected("message_not_found")


def test_a_failed_message_is_put_back_with_new_deliveries_and_a_new_time() -> None:
    past = given(MESSAGE, SENT, KEPT, FAILED)
    past.when(replay(), at=LATER).then(
        MessageReplayed(message_id=M1, delivery=2, deliveries_max=4, expires_at=LATER + timedelta(seconds=60))
    )
    given(MESSAGE, SENT, KEPT).when(replay()).then_rejected("not_failed")
    given(MESSAGE).when(replay()).then_rejected("message_not_found")


def test_a_message_that_was_put_back_lives_again() -> None:
    back = MessageReplayed(
        message_id=M1, delivery=2, deliveries_max=4, expires_at=NOON + timedelta(seconds=60)
    )
    past = given(MESSAGE, SENT, KEPT, FAILED, back)
    past.when(read(2)).then_kinds(MessageDelivered, MessageRead)
    past.when(give_back(2)).then_kinds(MessageDelivered, MessageReturned)
    past.when(ExpireMessage(message_id=M1), at=LATER).then(EXPIRED)


def test_priorities_are_kept() -> None:
    (sent,) = given(MESSAGE).when(post(priority=Priority.P0)).then_kinds(MessageSent)
    assert isinstance(sent, MessageSent)
    assert sent.priority is Priority.P0
