"""What a bot may believe about its right to work."""

from hypothesis import given
from hypothesis import strategies as st

from bots.lease import LASTS_S, Lease, Seen, lost
from shared.contracts.words import BOT_IS_SILENT_AFTER

moments = st.floats(min_value=0, max_value=1e6)


def test_nothing_may_be_done_before_the_first_answer() -> None:
    assert not Lease().holds(0.0)


def test_the_moment_of_sending_counts_and_not_of_the_answer() -> None:
    lease = Lease()

    lease.prove(sent_at=10.0)

    assert lease.holds(10.0 + LASTS_S - 0.001)
    assert not lease.holds(10.0 + LASTS_S)


def test_a_late_answer_to_an_old_heartbeat_takes_nothing_back() -> None:
    lease = Lease()
    lease.prove(20.0)

    lease.prove(10.0)

    assert lease.ends_at() == 20.0 + LASTS_S


@given(st.lists(moments, min_size=1), moments)
def test_a_bot_never_works_when_its_owner_may_have_given_its_work_away(sent: list[float], now: float) -> None:
    lease = Lease()
    for at in sent:
        lease.prove(at)

    if now - max(sent) >= BOT_IS_SILENT_AFTER.total_seconds():
        assert not lease.holds(now)


def test_a_token_is_new_once() -> None:
    seen = Seen()

    assert [seen.is_new(token) for token in (7, 7, 8, 7)] == [True, False, True, False]


def test_only_the_latest_tokens_are_remembered() -> None:
    seen = Seen(remembered=2)
    for token in (1, 2, 3):
        seen.is_new(token)

    assert not seen.is_new(3)
    assert seen.is_new(1)


def test_what_was_named_and_not_answered_is_lost() -> None:
    assert lost((1, 2, 3), (2, 9)) == {1, 3}
