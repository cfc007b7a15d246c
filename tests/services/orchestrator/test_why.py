"""What a task waits for, in words."""

from services.orchestrator.projection import fold_tasks
from services.orchestrator.why import why_ended, why_open
from shared.contracts.orchestrator.facts import BotSpec, TaskBlocked, TaskCancelled
from shared.contracts.orchestrator.protocol import Heartbeat, Held
from shared.contracts.orchestrator.queries import Why
from shared.contracts.words import TaskType
from tests.services.orchestrator.builders import (
    ALPHA,
    SECOND,
    T1,
    assigned,
    commit,
    died,
    failed,
    launched,
    lost,
    started,
    stop_requested,
    submitted,
)
from tests.services.orchestrator.scenes import Stage
from tests.support.scenario import NOON


def why(stage: Stage, *commits: object) -> Why:
    """Tells the stage the task's commits, and asks."""
    past = []
    for each in commits:
        facts = each if isinstance(each, tuple) else (each,)
        stage.tell(*facts)
        past.append(commit(stage.sequence, *facts, at=stage.utc))
    doc = fold_tasks(past)
    assert doc is not None
    answer = why_open(stage.scene, doc, stage.board.tasks[T1], stage.moment)
    assert answer is not None
    return answer


def reasons(answer: Why) -> dict[str, str]:
    return {verdict.bot: verdict.reason for verdict in answer.bots}


def test_no_bot_can_do_it_and_what_to_type_then() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.up("gpu", BotSpec(engine="shell", pool="gpu"))
    stage.up("writer", BotSpec(engine="shell", types=(TaskType.WRITING, TaskType.PLANNING)))
    answer = why(stage, submitted(engine="shell", pool="default"))
    assert (
        answer.explanation
        == "no bot can do this now: it needs a bot for code with engine shell in pool default"
    )
    assert (answer.waits_for, answer.queue_position, answer.state) == ("a_bot", 1, "queued")
    assert reasons(answer) == {
        "alpha": "it has another engine: echo",
        "gpu": "it is in another pool: gpu",
        "writer": "it does only writing, planning",
    }
    assert answer.advice == "launch one: hive bots launch NAME --engine shell --types code --pool default"


def test_the_bot_it_requires_is_not_there_or_does_not_run() -> None:
    stage = Stage()
    assert why(stage, submitted(bot="beta")).advice == (
        "launch one: hive bots launch beta --engine ENGINE --types code"
    )
    stage = Stage()
    stage.up("alpha")
    stage.tell(died(crashes=5, restart_at=None))
    answer = why(stage, submitted(bot="alpha"))
    assert reasons(answer) == {"alpha": "it is broken: its process died (exit 1), 5 in a row"}
    assert answer.advice == "start it: hive bots start alpha"
    stage = Stage()
    stage.up("alpha", BotSpec(engine="echo", types=(TaskType.WRITING,)))
    assert "is not what the task requires" in (why(stage, submitted(bot="alpha")).advice or "")


def test_bots_that_will_be_back_say_so() -> None:
    stage = Stage()
    stage.tell(launched("starting"))
    stage.up("alpha")
    stage.tell(died(restart_at=NOON + SECOND))
    stage.up("leaving")
    stage.tell(stop_requested(bot_id="leaving"))
    assert reasons(why(stage, submitted())) == {
        "starting": "it is starting",
        "alpha": "it died (1 in a row) and is started again at 12:00:01 UTC",
        "leaving": "it is stopping and takes nothing new",
    }


def test_all_slots_are_taken() -> None:
    stage = Stage()
    stage.up("alpha", BotSpec(engine="echo", slots=1))
    stage.tell(submitted("t0"), assigned(task_id="t0"))
    stage.tell(submitted("older"))
    stage.tell(submitted("other", engine="shell"))
    answer = why(stage, submitted())
    assert answer.explanation == "all slots of alpha are taken; it is number 2 in the queue"
    assert (answer.waits_for, answer.queue_position) == ("a_slot", 2)
    assert reasons(answer) == {"alpha": "all its slots are taken: it has 1 tasks"}


def test_the_bots_that_could_are_not_heard() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.later(4)
    answer = why(stage, submitted())
    assert answer.explanation == "the bots that could do it have not been heard in the last seconds"
    assert reasons(answer) == {"alpha": "it has not been heard in the last seconds"}
    stage.beat("alpha")
    again = why_open(stage.scene, fold_doc(), stage.board.tasks[T1], stage.moment)
    assert again is not None
    assert again.explanation == "it is about to be given to one of alpha"


def fold_doc():
    doc = fold_tasks([commit(1, submitted())])
    assert doc is not None
    return doc


def test_a_retry_says_what_went_wrong_and_when_it_starts() -> None:
    stage = Stage()
    answer = why(stage, submitted(), assigned(), failed(retry_at=NOON + 2 * SECOND))
    assert answer.explanation == "attempt 1 of 3 went wrong (exit code 1); the next may start in 2.0 s"
    assert answer.waits_for == "retry"


def test_a_blocked_task_asks_for_a_person() -> None:
    stage = Stage()
    blocked = (lost(retry_at=None), TaskBlocked(task_id=T1, reason="run it again?"))
    answer = why(stage, submitted(), assigned(), blocked)
    assert (answer.explanation, answer.waits_for) == ("a person must look: run it again?", "review")
    assert "hive task resume t1" in (answer.advice or "")


def test_a_task_that_a_bot_has_says_how_far_it_is() -> None:
    stage = Stage()
    stage.up("alpha")
    assert why(stage, submitted(), assigned()).explanation == "alpha has just been given it"
    token = stage.sequence
    stage.tell(started(token))
    held = (Held(task_id=T1, token=token, progress=0.4),)
    stage.liveness.hear(Heartbeat(bot_id=ALPHA, generation=1, pid=1, host="local", held=held), stage.mono)
    answer = why_open(stage.scene, fold_doc(), stage.board.tasks[T1], stage.moment)
    assert answer is not None
    assert answer.explanation == "alpha works on it: attempt 1 of 3, 40% done"
    assert answer.waits_for == "the_bot"


def test_an_ended_task_waits_for_nothing() -> None:
    past = [commit(1, submitted()), commit(2, TaskCancelled(task_id=T1, reason="no longer wanted"))]
    doc = fold_tasks(past)
    assert doc is not None
    assert why_ended(doc).explanation == "it is cancelled: no longer wanted"
    assert why_ended(doc).waits_for == "nothing"
