"""How facts become documents."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.facts import BotCleared
from services.orchestrator.projection import fold_bot, fold_task, fold_tasks, timeline
from shared.contracts.orchestrator.facts import (
    BotHeardAgain,
    BotLaunchFailed,
    BotStopped,
    Output,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskResumed,
    Usage,
)
from shared.contracts.orchestrator.queries import BotDoc, TaskDoc
from tests.services.orchestrator.builders import (
    ALPHA,
    BETA,
    ERROR,
    SECOND,
    T1,
    assigned,
    came_up,
    commit,
    died,
    failed,
    launched,
    lost,
    restarted,
    retired,
    silent,
    started,
    stop_requested,
    submitted,
    withdrawn,
)
from tests.support.scenario import NOON


def told(*commits: object) -> TaskDoc:
    """A document of a past, each commit a second after the one before."""
    pasts = [
        commit(n, *(each if isinstance(each, tuple) else (each,)), at=NOON + n * SECOND)
        for n, each in enumerate(commits, 1)
    ]
    doc = fold_tasks(pasts)
    assert doc is not None
    return doc


def completed(token: int, attempt: int = 1) -> TaskCompleted:
    return TaskCompleted(
        task_id=T1,
        bot_id=ALPHA,
        token=token,
        attempt=attempt,
        started_at=NOON,
        ended_at=NOON + SECOND,
        output=Output(text="ok"),
        usage=Usage(tokens_in=2, cost_usd=0.5),
    )


def test_every_state_has_its_word() -> None:
    assert told(submitted()).state == "queued"
    assert told((submitted(), assigned())).state == "assigned"
    assert told((submitted(), assigned()), started(1)).state == "running"
    assert told((submitted(), assigned()), withdrawn(1)).state == "queued"
    assert told((submitted(), assigned()), failed(1)).state == "retrying"
    assert told((submitted(), assigned()), lost(1)).state == "retrying"
    blocked = ((submitted(), assigned()), (lost(1, retry_at=None), TaskBlocked(task_id=T1, reason="look")))
    assert told(*blocked).state == "blocked"
    assert told(*blocked, TaskResumed(task_id=T1)).state == "queued"
    assert told((submitted(), assigned()), completed(1)).state == "completed"
    gone = TaskFailed(task_id=T1, error=ERROR, attempts=1)
    assert told((submitted(), assigned()), (failed(1, retry_at=None), gone)).state == "failed"
    assert told(submitted(), TaskCancelled(task_id=T1, reason="asked")).state == "cancelled"
    assert told(submitted(), TaskExpired(task_id=T1, deadline=NOON)).state == "expired"


def test_the_result_is_there_with_what_it_cost() -> None:
    doc = told((submitted(), assigned()), failed(1), assigned(attempt=2), completed(3, 2))
    assert doc.output == Output(text="ok")
    assert doc.usage == Usage(tokens_in=2, cost_usd=0.5)
    assert (doc.error, doc.bot, doc.retry_at, doc.ended_at) == (None, ALPHA, None, NOON + 4 * SECOND)
    assert doc.version == 4


def test_each_attempt_says_how_it_ended() -> None:
    doc = told(
        (submitted(), assigned()),
        withdrawn(1),
        assigned(BETA),
        started(3, BETA),
        lost(3),
        assigned(attempt=2),
        TaskCancelled(task_id=T1, reason="asked", bot_id=ALPHA),
    )
    assert [(each.end, each.bot, each.token) for each in doc.attempts] == [
        ("withdrawn", "alpha", 1),
        ("lost", "beta", 3),
        ("cancelled", "alpha", 6),
    ]
    assert doc.attempts[1].started_at == NOON + 4 * SECOND
    assert doc.reason == "asked"


def test_a_waiting_task_that_is_cancelled_does_not_change_its_last_attempt() -> None:
    doc = told((submitted(), assigned()), failed(1), TaskCancelled(task_id=T1, reason="asked"))
    assert doc.attempts[0].end == "failed"


def test_a_running_task_that_expires_ends_its_attempt() -> None:
    doc = told((submitted(), assigned()), TaskExpired(task_id=T1, deadline=NOON, bot_id=ALPHA))
    assert (doc.state, doc.attempts[0].end) == ("expired", "expired")


def test_a_commit_counts_once() -> None:
    doc = told((submitted(), assigned()))
    assert fold_task(doc, commit(1, submitted(), assigned())) is doc


def test_there_is_no_document_before_the_submission() -> None:
    assert fold_tasks([commit(3, assigned())]) is None


@given(st.lists(st.sampled_from([assigned(), started(1), withdrawn(1), failed(1), lost(1)]), max_size=8))
def test_any_facts_fold_without_failing(facts: list[object]) -> None:
    assert told(submitted(), *facts).version == len(facts) + 1


def test_the_timeline_tells_every_fact_with_its_latency() -> None:
    commits = [
        commit(3, submitted(), at=NOON),
        commit(5, assigned(), at=NOON + timedelta(milliseconds=250)),
        commit(9, started(5), completed(5), at=NOON + SECOND),
    ]
    entries = timeline(T1, commits).entries
    assert [each.fact for each in entries] == [
        "TaskSubmitted",
        "TaskAssigned",
        "TaskStarted",
        "TaskCompleted",
    ]
    assert [each.sequence for each in entries] == [3, 5, 9, 9]
    assert [each.after_ms for each in entries] == [0, 250, 750, 0]
    assert [each.since_start_ms for each in entries] == [0, 250, 1000, 1000]
    assert (entries[0].actor, entries[0].cause) == ("key-1", "command-3")
    assert b'"bot_id":"alpha"' in bytes(entries[1].detail)


def bot_told(*facts: object) -> BotDoc:
    doc: BotDoc | None = None
    for n, fact in enumerate(facts, 1):
        doc = fold_bot(doc, commit(n, fact, at=NOON + n * SECOND))
    assert doc is not None
    return doc


def test_every_state_of_a_bot_has_its_word() -> None:
    up = (launched(), came_up())
    assert bot_told(launched()).state == "starting"
    assert bot_told(*up).state == "idle"
    assert bot_told(*up, silent()).state == "silent"
    assert bot_told(*up, silent(), BotHeardAgain(bot_id=ALPHA, generation=1)).state == "idle"
    assert bot_told(*up, died()).state == "restarting"
    assert bot_told(*up, died(crashes=5, restart_at=None)).state == "broken"
    assert bot_told(*up, restarted()).state == "starting"
    assert bot_told(*up, stop_requested()).state == "draining"
    assert bot_told(*up, stop_requested(), BotStopped(bot_id=ALPHA, generation=1)).state == "stopped"
    assert bot_told(*up, retired()).state == "retired"
    error = TaskError(code="no_engine", detail="`engine`: there is none")
    broken = bot_told(launched(), BotLaunchFailed(bot_id=ALPHA, generation=1, error=error))
    assert (broken.state, broken.reason) == ("broken", error.detail)


def test_a_bot_counts_its_crashes_in_a_row_and_says_when_it_comes_back() -> None:
    dead = bot_told(launched(), came_up(), died(crashes=2, restart_at=NOON + 9 * SECOND))
    assert (dead.crashes, dead.restart_at, dead.reason, dead.pid) == (2, NOON + 9 * SECOND, "exit 1", None)
    again = bot_told(launched(), came_up(), died(crashes=2), restarted(2, "died, 2 in a row"))
    assert (again.crashes, again.generation, again.restart_at) == (2, 2, None)
    asked = bot_told(launched(), came_up(), restarted())
    assert asked.crashes == 0


def test_a_bot_says_whether_it_came_up_since_it_was_launched() -> None:
    assert not bot_told(launched(), died()).came_up
    assert bot_told(launched(), came_up(), died()).came_up
    assert not bot_told(launched(), came_up(), retired(), launched(generation=2)).came_up


def test_a_retired_name_begins_a_new_document() -> None:
    doc = bot_told(launched(), retired(), BotCleared(bot_id=ALPHA, generation=1), launched(generation=2))
    assert (doc.state, doc.generation, doc.launched_at, doc.version) == ("starting", 2, NOON + 4 * SECOND, 4)


def test_a_bots_commit_counts_once() -> None:
    doc = bot_told(launched(), came_up())
    assert fold_bot(doc, commit(1, launched())) is doc
    assert fold_bot(None, commit(1, came_up())) is None
