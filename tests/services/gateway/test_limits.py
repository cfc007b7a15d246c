"""So many requests a minute, for each key."""

from services.gateway.limits import KEYS_MAX, WINDOW_S, Limits


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_key_may_ask_as_often_as_its_limit_says_then_waits_for_the_window() -> None:
    clock = Clock()
    limits = Limits(clock)
    taken = [limits.take("k", 3) for _ in range(4)]
    assert [each.allowed for each in taken] == [True, True, True, False]
    assert [each.remaining for each in taken] == [2, 1, 0, 0]
    assert {each.reset_s for each in taken} == {60}


def test_the_time_to_wait_is_told_in_whole_seconds_and_never_zero() -> None:
    clock = Clock()
    limits = Limits(clock)
    limits.take("k", 1)
    clock.seconds += WINDOW_S - 0.01
    assert limits.take("k", 1).reset_s == 1
    clock.seconds += 0.02
    assert limits.take("k", 1).allowed


def test_keys_do_not_use_up_each_others_windows() -> None:
    limits = Limits(Clock())
    assert limits.take("a", 1).allowed
    assert limits.take("b", 1).allowed
    assert not limits.take("a", 1).allowed


def test_windows_that_are_over_are_dropped_when_there_are_many() -> None:
    clock = Clock()
    limits = Limits(clock)
    for number in range(KEYS_MAX):
        limits.take(f"k{number}", 1)
    clock.seconds += WINDOW_S
    limits.take("new", 1)
    assert len(limits._windows) == 1


def test_the_headers_tell_limit_remaining_and_reset() -> None:
    headers = dict(Limits(Clock()).take("k", 100).headers())
    assert headers == {
        b"ratelimit-limit": b"100",
        b"ratelimit-remaining": b"99",
        b"ratelimit-reset": b"60",
    }
