"""The rules of a bot's life."""

from datetime import timedelta

import pytest

from services.orchestrator.commands import (
    NoteBotCleared,
    NoteBotDead,
    NoteBotHeard,
    NoteBotSilent,
    NoteBotStopped,
    NoteBotUp,
    NoteLaunchFailed,
    RestartDeadBot,
)
from services.orchestrator.facts import BotCleared, BotEvent
from shared.contracts.orchestrator.commands import (
    LaunchBot,
    ReportBotExit,
    RestartBot,
    RetireBot,
    StartBot,
    StopBot,
)
from shared.contracts.orchestrator.facts import (
    BotDied,
    BotHeardAgain,
    BotLaunched,
    BotLaunchFailed,
    BotRetired,
    BotSpec,
    BotStopped,
    BotStopRequested,
    RestartPolicy,
    TaskError,
)
from tests.services.orchestrator.builders import (
    ALPHA,
    ECHO,
    SECOND,
    bot,
    came_up,
    died,
    launched,
    restarted,
    retired,
    silent,
    stop_requested,
)
from tests.support.scenario import NOON

LAUNCH = LaunchBot(bot_id=ALPHA, spec=ECHO)
UP = (launched(), came_up())
STOPPED = (*UP, stop_requested(), BotStopped(bot_id=ALPHA, generation=1))
NEVER = BotSpec(engine="echo", restart=RestartPolicy(restart="never"))


def refused(generation: int = 1) -> BotLaunchFailed:
    error = TaskError(code="engine_unknown", detail="`engine`: there is no engine foo")
    return BotLaunchFailed(bot_id=ALPHA, generation=generation, error=error)


def exit_of(generation: int = 1) -> ReportBotExit:
    return ReportBotExit(bot_id=ALPHA, generation=generation, reason="exit 1")


def test_a_new_name_is_launched_as_the_first_generation() -> None:
    bot().when(LAUNCH).then(launched())


def test_the_same_bot_launched_twice_is_already_so() -> None:
    bot(*UP).when(LAUNCH).then_nothing()


def test_a_name_that_is_taken_by_another_bot_is_refused() -> None:
    bot(*UP).when(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="shell"))).then_rejected("bot_exists")


def test_a_bot_that_never_came_up_is_launched_anew_with_another_spec() -> None:
    corrected = LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="shell"))
    anew = BotLaunched(bot_id=ALPHA, spec=corrected.spec, generation=2)

    bot(launched(), refused()).when(corrected).then(anew)
    bot(launched(), died()).when(corrected).then(anew)
    bot(launched(), died(restart_at=None)).when(corrected).then(anew)
    again = BotLaunched(bot_id=ALPHA, spec=corrected.spec, generation=3)
    bot(launched(), refused(), restarted(), refused(generation=2)).when(corrected).then(again)


def test_a_bot_that_was_refused_is_tried_again_when_it_is_launched_again() -> None:
    bot(launched(), refused()).when(LAUNCH).then(launched(generation=2))
    bot(launched(), died()).when(LAUNCH).then_nothing()  # it is about to be


def test_a_bot_that_came_up_once_is_not_replaced_by_a_launch() -> None:
    other = LaunchBot(bot_id=ALPHA, spec=BotSpec(engine="shell"))

    bot(*UP, died()).when(other).then_rejected("bot_exists")
    bot(*UP, died(restart_at=None)).when(other).then_rejected("bot_exists")
    bot(*UP, restarted(), refused(generation=2)).when(other).then_rejected("bot_exists")
    bot(*UP, restarted(), refused(generation=2)).when(LAUNCH).then_nothing()
    bot(*STOPPED).when(other).then_rejected("bot_exists")
    bot(launched()).when(other).then_rejected("bot_exists")  # it may yet come up


def test_a_retired_name_is_launched_again_as_the_next_generation() -> None:
    past = (*UP, retired(), BotCleared(bot_id=ALPHA, generation=1))
    bot(*past).when(LAUNCH).then(launched(generation=2))


def test_a_retired_name_waits_until_what_it_left_is_removed() -> None:
    bot(*UP, retired()).when(LAUNCH).then_rejected("bot_retiring")
    cleared = NoteBotCleared(bot_id=ALPHA, generation=1)
    bot(*UP, retired()).when(cleared).then(BotCleared(bot_id=ALPHA, generation=1))
    bot(*UP).when(cleared).then_nothing()


def test_the_first_heartbeat_of_a_generation_says_that_it_is_up() -> None:
    heard = NoteBotUp(bot_id=ALPHA, generation=1, pid=7, host="local")
    bot(launched()).when(heard).then(came_up())
    bot(*UP).when(heard).then_nothing()
    bot(launched(), restarted()).when(heard).then_nothing()


def test_a_bot_goes_silent_once_and_is_heard_again_once() -> None:
    note_silent = NoteBotSilent(bot_id=ALPHA, generation=1)
    heard = NoteBotHeard(bot_id=ALPHA, generation=1)
    bot(*UP).when(note_silent).then(silent())
    bot(*UP, silent()).when(note_silent).then_nothing()
    bot(*UP, silent()).when(heard).then(BotHeardAgain(bot_id=ALPHA, generation=1))
    bot(*UP).when(heard).then_nothing()


def test_a_bot_that_died_is_started_again_after_a_while() -> None:
    (fact,) = bot(*UP).when(exit_of()).then_kinds(BotDied)

    assert isinstance(fact, BotDied)
    assert fact.restart_at is not None
    assert fact.crashes == 1
    assert NOON + 0.5 * SECOND <= fact.restart_at <= NOON + SECOND


def test_an_exit_reported_twice_counts_once() -> None:
    bot(*UP, died()).when(exit_of()).then_nothing()


def test_the_exit_of_an_older_process_changes_nothing() -> None:
    bot(*UP, restarted()).when(exit_of(generation=1)).then_nothing()


def test_a_bot_that_died_five_times_in_a_row_is_left_alone() -> None:
    past: list[BotEvent] = [launched()]
    for crash in range(1, 5):
        past += [came_up(generation=crash), died(crash, generation=crash), restarted(crash + 1, "died")]
    (fact,) = bot(*past).when(exit_of(generation=5)).then_kinds(BotDied)

    assert isinstance(fact, BotDied)
    assert (fact.crashes, fact.restart_at) == (5, None)


def test_a_long_run_forgets_earlier_crashes() -> None:
    past = bot(launched(), died(crashes=4), restarted(2, "died"), came_up(generation=2))
    (fact,) = past.when(exit_of(generation=2), at=NOON + timedelta(minutes=2)).then_kinds(BotDied)

    assert isinstance(fact, BotDied)
    assert fact.crashes == 1


def test_a_bot_that_is_not_to_be_restarted_is_left_alone() -> None:
    (fact,) = bot(launched(spec=NEVER), came_up()).when(exit_of()).then_kinds(BotDied)

    assert isinstance(fact, BotDied)
    assert fact.restart_at is None


def test_a_dead_bot_is_restarted_when_its_time_has_come() -> None:
    due = RestartDeadBot(bot_id=ALPHA, generation=1)
    past = bot(*UP, died(restart_at=NOON + SECOND))
    past.when(due).then_nothing()
    past.when(due, at=NOON + SECOND).then(restarted(2, "died, 1 in a row"))


def test_a_process_that_must_be_gone_counts_as_dead_unless_it_came_up_since() -> None:
    gone = NoteBotDead(
        bot_id=ALPHA, generation=1, reason="not running at its host", seen_at=NOON + SECOND, crashed=True
    )
    bot(*UP).when(gone).then_kinds(BotDied)
    bot(*UP, at=NOON + 2 * SECOND).when(gone).then_nothing()
    bot(launched()).when(gone).then_nothing()


def test_a_process_that_was_told_to_leave_or_lost_its_host_did_not_crash() -> None:
    left = ReportBotExit(bot_id=ALPHA, generation=1, reason="exit 0")
    lost = NoteBotDead(bot_id=ALPHA, generation=1, reason="no host", seen_at=NOON + SECOND, crashed=False)
    for command in (left, lost):
        (fact,) = bot(*UP).when(command).then_kinds(BotDied)
        assert isinstance(fact, BotDied)
        assert fact.crashes == 0
        assert fact.restart_at is not None


def test_a_bot_that_its_host_cannot_start_is_broken_until_someone_starts_it() -> None:
    note = NoteLaunchFailed(bot_id=ALPHA, generation=1, error=refused().error)
    bot(launched()).when(note).then(refused())
    bot(launched(), refused()).when(StartBot(bot_id=ALPHA)).then(restarted())


def test_a_bot_stops_when_its_process_is_gone() -> None:
    bot(*UP).when(StopBot(bot_id=ALPHA)).then(stop_requested())
    gone = NoteBotStopped(bot_id=ALPHA, generation=1)
    bot(*UP, stop_requested()).when(gone).then(BotStopped(bot_id=ALPHA, generation=1))
    bot(*UP, stop_requested()).when(exit_of()).then(BotStopped(bot_id=ALPHA, generation=1))
    bot(*UP).when(gone).then_nothing()


def test_stopping_twice_is_already_so() -> None:
    bot(*UP, stop_requested()).when(StopBot(bot_id=ALPHA)).then_nothing()
    bot(*STOPPED).when(StopBot(bot_id=ALPHA)).then_nothing()


def test_a_bot_without_a_process_is_stopped_at_once() -> None:
    bot(*UP, died()).when(StopBot(bot_id=ALPHA)).then(
        BotStopRequested(bot_id=ALPHA, generation=1), BotStopped(bot_id=ALPHA, generation=1)
    )


def test_a_stopped_bot_starts_as_a_new_generation() -> None:
    bot(*STOPPED).when(StartBot(bot_id=ALPHA)).then(restarted())
    bot(*UP).when(StartBot(bot_id=ALPHA)).then_nothing()


def test_stop_start_stop_ends_stopped() -> None:
    past = (*UP, stop_requested(), restarted())
    bot(*past).when(StopBot(bot_id=ALPHA)).then(stop_requested(generation=2))


def test_a_restart_wants_a_new_process_once() -> None:
    bot(*UP).when(RestartBot(bot_id=ALPHA)).then(restarted())
    bot(*UP, restarted()).when(RestartBot(bot_id=ALPHA)).then_nothing()


def test_starting_a_broken_bot_forgets_its_crashes() -> None:
    past = bot(launched(), died(crashes=5, restart_at=None), restarted())
    (fact,) = past.when(exit_of(generation=2)).then_kinds(BotDied)

    assert isinstance(fact, BotDied)
    assert fact.crashes == 1


def test_a_bot_can_be_retired_at_any_moment_and_only_once() -> None:
    for past in [(launched(),), UP, STOPPED, (*UP, died())]:
        bot(*past).when(RetireBot(bot_id=ALPHA)).then_kinds(BotRetired)
    bot(*UP, retired()).when(RetireBot(bot_id=ALPHA)).then_nothing()


@pytest.mark.parametrize("command", [StartBot(bot_id=ALPHA), StopBot(bot_id=ALPHA), RestartBot(bot_id=ALPHA)])
def test_a_retired_or_unknown_bot_is_refused(command: StartBot | StopBot | RestartBot) -> None:
    bot(*UP, retired()).when(command).then_rejected("bot_retired")
    bot().when(command).then_rejected("bot_not_found")
