"""What is outstanding about bots and their processes."""

from services.orchestrator import hosting
from services.orchestrator.commands import (
    NoteBotDead,
    NoteBotHeard,
    NoteBotSilent,
    NoteBotStopped,
    NoteBotUp,
    RestartDeadBot,
)
from services.orchestrator.facts import BotCleared
from services.orchestrator.hosts import is_external
from services.orchestrator.steps import ClearBot, Decide, StartProcess, Step, StopProcess, Tell, key_of
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.facts import BotSpec, BotStopped
from shared.contracts.orchestrator.protocol import Drain, Heartbeat
from tests.services.orchestrator.builders import (
    ALPHA,
    ECHO,
    SECOND,
    came_up,
    died,
    launched,
    restarted,
    retired,
    silent,
    stop_requested,
)
from tests.services.orchestrator.scenes import ALL, Stage

EXTERNAL = BotSpec(engine="external", host="external")


def outstanding(stage: Stage) -> list[Step]:
    return hosting.outstanding_bots(stage.scene, stage.moment)


def commands(stage: Stage) -> list[object]:
    return [step.command for step in outstanding(stage) if isinstance(step, Decide)]


def kinds(stage: Stage) -> list[type]:
    return [type(step) for step in outstanding(stage)]


def test_a_launched_bot_is_started_at_once() -> None:
    stage = Stage()
    change = stage.tell(launched())
    (step,) = hosting.after_bot(stage.scene, change, stage.moment)  # type: ignore[arg-type]
    assert isinstance(step, StartProcess)
    assert (step.bot_id, step.generation, step.spec) == (ALPHA, 1, ECHO)


def test_a_bot_of_another_owner_is_left_to_it() -> None:
    stage = Stage(owned=ALL - {partition_of(ALPHA)})
    change = stage.tell(launched())
    assert hosting.after_bot(stage.scene, change, stage.moment) == []  # type: ignore[arg-type]
    assert outstanding(stage) == []


def test_an_order_that_the_host_took_is_repeated_only_when_its_reports_do_not_show_it() -> None:
    stage = Stage()
    stage.tell(launched())
    stage.scene.hosts.ordered(ALPHA, 1, stage.mono)
    stage.report()
    assert outstanding(stage) == []
    stage.later(3.5)
    stage.report()
    assert kinds(stage) == [StartProcess]
    stage.report(alpha=1)
    assert outstanding(stage) == []


def test_an_older_process_goes_before_the_next_starts() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.tell(restarted())
    stage.report(alpha=1)
    stop, start = outstanding(stage)
    assert stop == StopProcess(ALPHA, 1, "local", hosting.RESTART_GRACE_S)
    assert isinstance(start, StartProcess)
    assert start.generation == 2
    stage.scene.hosts.ordered(ALPHA, 2, stage.mono)
    assert outstanding(stage) == []
    stage.later(0.6)
    assert kinds(stage) == [StopProcess, StartProcess]


def test_the_first_heartbeat_of_a_starting_bot_brings_it_up() -> None:
    stage = Stage()
    stage.tell(launched())
    (step,) = hosting.heard(stage.board, Heartbeat(bot_id=ALPHA, generation=1, pid=7, host="local"))
    assert isinstance(step, Decide)
    assert step.command == NoteBotUp(bot_id=ALPHA, generation=1, pid=7, host="local")


def test_a_silent_bot_that_is_heard_is_heard_again() -> None:
    stage = Stage()
    stage.up("alpha")
    heartbeat = stage.beat("alpha")
    assert hosting.heard(stage.board, heartbeat) == []
    stage.tell(silent())
    (step,) = hosting.heard(stage.board, heartbeat)
    assert isinstance(step, Decide)
    assert step.command == NoteBotHeard(bot_id=ALPHA, generation=1)


def test_each_silence_of_one_process_is_decided_anew() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.later(6)
    (first,) = outstanding(stage)
    stage.tell(silent())
    stage.tell(launched("beta"))
    stage.beat("alpha")
    assert key_of(first) != key_of(hosting.heard(stage.board, stage.beat("alpha"))[0])
    assert isinstance(first, Decide)
    assert first.command == NoteBotSilent(bot_id=ALPHA, generation=1)


def test_a_process_that_its_host_no_longer_runs_is_dead_if_it_is_not_heard() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.report()
    assert outstanding(stage) == []  # the report may be older than the process
    stage.later(2.5)
    stage.beat("alpha")
    stage.report()
    assert outstanding(stage) == []  # it was heard just now
    stage.later(1.6)
    stage.report()
    (dead,) = commands(stage)
    assert isinstance(dead, NoteBotDead)
    assert (dead.seen_at, dead.crashed) == (stage.utc, False)


def test_a_process_that_runs_but_says_nothing_for_long_is_dead() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.later(6)
    stage.tell(silent())
    stage.report(alpha=1)
    assert outstanding(stage) == []
    stage.later(10)
    stage.report(alpha=1)
    (dead,) = commands(stage)
    assert isinstance(dead, NoteBotDead)
    assert dead.crashed


def test_a_dead_bot_is_restarted_when_its_time_has_come() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.tell(died(restart_at=stage.utc + SECOND))
    assert outstanding(stage) == []
    stage.later(1)
    assert commands(stage) == [RestartDeadBot(bot_id=ALPHA, generation=1)]


def test_a_stopping_bot_is_told_to_drain_and_its_host_to_stop_it() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.report(alpha=1)
    change = stage.tell(stop_requested())
    steps = hosting.after_bot(stage.scene, change, stage.moment)  # type: ignore[arg-type]
    assert steps == [Tell(ALPHA, Drain()), StopProcess(ALPHA, 1, "local", stage.config.stop_grace_s)]


def test_a_stopping_bot_has_stopped_when_its_host_shows_it_no_more() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.tell(stop_requested())
    stage.report()
    assert outstanding(stage) == []  # that report may be from before the request
    stage.later(2.5)
    stage.report()
    assert commands(stage) == [NoteBotStopped(bot_id=ALPHA, generation=1)]


def test_what_runs_though_it_is_not_wanted_is_stopped() -> None:
    for past in [
        (stop_requested(), BotStopped(bot_id=ALPHA, generation=1)),
        (died(restart_at=None),),
    ]:
        stage = Stage()
        stage.up("alpha")
        for fact in past:
            stage.tell(fact)
        stage.report()
        assert outstanding(stage) == []
        stage.report(alpha=1)
        assert kinds(stage) == [StopProcess]


def test_what_runs_though_its_bot_is_cleared_is_stopped_by_who_has_listened_long_enough() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.tell(retired())
    stage.tell(BotCleared(bot_id=ALPHA, generation=1))
    stage.report(alpha=1)
    assert hosting.strangers(stage.scene, stage.moment) == []
    stage.later(hosting.STRANGERS_AFTER_S)
    assert hosting.strangers(stage.scene, stage.moment) == [StopProcess(ALPHA, 1, "local", 1.0)]
    stage.board.own_partitions(frozenset())
    assert hosting.strangers(stage.scene, stage.moment) == []


def test_a_retired_bot_is_cleared_until_that_is_done() -> None:
    stage = Stage()
    stage.up("alpha")
    change = stage.tell(retired())
    (step,) = hosting.after_bot(stage.scene, change, stage.moment)  # type: ignore[arg-type]
    assert isinstance(step, ClearBot)
    assert kinds(stage) == [ClearBot]
    stage.tell(BotCleared(bot_id=ALPHA, generation=1))
    assert outstanding(stage) == []


def test_a_bot_that_others_run_is_ordered_once_at_a_host_that_gives_credentials() -> None:
    stage = Stage()
    stage.report("a-host", engines=("echo",))
    stage.report("b-host", engines=("echo", "external"))
    stage.tell(launched(spec=EXTERNAL))
    assert is_external(EXTERNAL)
    assert stage.scene.hosts.home(EXTERNAL) == "b-host"
    assert kinds(stage) == [StartProcess]
    stage.scene.hosts.ordered(ALPHA, 1, stage.mono)
    stage.later(60)
    assert outstanding(stage) == []


def test_a_bot_that_others_run_lives_by_its_heartbeats_alone() -> None:
    stage = Stage()
    stage.tell(launched(spec=EXTERNAL))
    stage.tell(came_up())
    stage.beat("alpha", generation=5)
    stage.later(4)
    stage.report(engines=("external",))
    assert outstanding(stage) == []
    stage.later(2)
    assert commands(stage) == [NoteBotSilent(bot_id=ALPHA, generation=1)]
    stage.tell(silent())
    stage.tell(stop_requested())
    assert commands(stage) == [NoteBotStopped(bot_id=ALPHA, generation=1)]


def test_without_any_host_a_bot_that_others_run_is_asked_for_at_the_local_one() -> None:
    assert Stage().scene.hosts.home(EXTERNAL) == "local"
