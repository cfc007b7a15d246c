"""Who is heard and what is named, on a clock of our own that the test moves."""

from shared.contracts.words import BotId, TaskId
from tests.services.orchestrator.builders import ALPHA, T1
from tests.services.orchestrator.scenes import Stage

TOKEN = 7


def held(stage: Stage) -> None:
    stage.liveness.hold(TOKEN, T1, ALPHA)
    stage.liveness.dispatched(TOKEN, stage.mono)


def test_a_bot_is_silent_after_five_seconds_of_our_listening() -> None:
    stage = Stage()
    stage.beat("alpha")
    stage.later(5)
    assert not stage.liveness.is_silent(ALPHA, stage.mono)
    stage.later(0.1)
    assert stage.liveness.is_silent(ALPHA, stage.mono)


def test_a_bot_never_heard_is_silent_five_seconds_after_we_began_to_listen() -> None:
    stage = Stage()
    stage.later(4)
    assert not stage.liveness.is_silent(ALPHA, stage.mono)
    stage.later(2)
    assert stage.liveness.is_silent(ALPHA, stage.mono)


def test_our_own_stall_begins_every_count_again() -> None:
    stage = Stage()
    stage.beat("alpha")
    stage.later(30, listening=False)
    assert not stage.liveness.is_silent(ALPHA, stage.mono)
    stage.later(5.5)
    assert stage.liveness.is_silent(ALPHA, stage.mono)


def test_while_we_are_cut_off_nobody_falls_silent() -> None:
    stage = Stage()
    stage.beat("alpha")
    for _ in range(40):
        stage.mono += 0.25
        stage.liveness.tick(stage.mono, connected=False)
    assert not stage.liveness.is_silent(ALPHA, stage.mono)


def test_a_take_over_begins_every_count_again() -> None:
    stage = Stage()
    stage.beat("alpha")
    stage.later(4.5)
    stage.liveness.restart(stage.mono)
    stage.later(4.5)
    assert not stage.liveness.is_silent(ALPHA, stage.mono)


def test_an_assignment_that_a_bot_does_not_name_in_time_was_not_taken() -> None:
    stage = Stage()
    held(stage)
    stage.later(1.5)
    stage.beat("alpha")
    assert not stage.liveness.untaken(stage.liveness.leases[TOKEN], 2.0)
    stage.later(1)
    stage.beat("alpha")
    assert stage.liveness.untaken(stage.liveness.leases[TOKEN], 2.0)


def test_a_bot_that_is_cut_off_may_have_taken_it() -> None:
    stage = Stage()
    held(stage)
    stage.beat("alpha")
    stage.later(4.9)
    assert not stage.liveness.untaken(stage.liveness.leases[TOKEN], 2.0)


def test_an_assignment_that_was_named_is_taken() -> None:
    stage = Stage()
    held(stage)
    stage.beat("alpha", TOKEN)
    stage.later(10)
    assert not stage.liveness.untaken(stage.liveness.leases[TOKEN], 2.0)


def test_another_bot_that_names_the_token_does_not_count() -> None:
    stage = Stage()
    held(stage)
    stage.beat("beta", TOKEN)
    assert stage.liveness.leases[TOKEN].first_named is None


def test_a_task_that_is_still_named_a_while_later_has_outlived_its_first_heartbeat() -> None:
    stage = Stage()
    held(stage)
    stage.beat("alpha", TOKEN)
    stage.later(0.1)
    stage.beat("alpha", TOKEN)
    assert not stage.liveness.leases[TOKEN].outlived
    stage.later(0.9)
    stage.beat("alpha", TOKEN)
    assert stage.liveness.leases[TOKEN].outlived


def test_an_attempt_no_longer_named_by_a_bot_that_is_heard_has_vanished() -> None:
    stage = Stage()
    held(stage)
    stage.beat("alpha", TOKEN)
    stage.later(31)
    lease = stage.liveness.leases[TOKEN]
    assert not stage.liveness.vanished(
        lease, stage.mono
    )  # the bot is not heard at all: that is another matter
    stage.beat("alpha")
    assert stage.liveness.vanished(lease, stage.mono)


def test_a_bot_that_takes_nothing_is_given_nothing_for_longer_and_longer() -> None:
    stage = Stage()
    waits = []
    for _ in range(6):
        stage.liveness.distrust(ALPHA, stage.mono)
        began = stage.mono
        stage.beat("alpha")
        while not stage.liveness.is_ready(ALPHA, stage.mono):
            stage.later(0.5)
            stage.beat("alpha")
        waits.append(stage.mono - began)
    assert waits == [2, 4, 8, 16, 30, 30]


def test_a_bot_that_takes_something_is_trusted_again() -> None:
    stage = Stage()
    stage.liveness.distrust(ALPHA, stage.mono)
    held(stage)
    stage.beat("alpha", TOKEN)
    assert stage.liveness.is_ready(ALPHA, stage.mono)


def test_what_is_dropped_or_forgotten_leaves_no_trace() -> None:
    stage = Stage()
    held(stage)
    stage.beat("alpha", TOKEN)
    stage.liveness.drop(TOKEN)
    stage.liveness.forget(ALPHA)
    stage.liveness.named(TOKEN, stage.mono)
    assert stage.liveness.leases == {}
    assert stage.liveness.beat(BotId("alpha")) is None
    stage.liveness.dispatched(TOKEN, stage.mono)
    assert TaskId("t1") not in {lease.task_id for lease in stage.liveness.leases.values()}
