"""What is outstanding about tasks."""

from services.orchestrator import reactions
from services.orchestrator.commands import (
    AssignTask,
    ExpireTask,
    LoseAttempt,
    NoteTaskStarted,
    WithdrawAssignment,
)
from services.orchestrator.steps import Decide, Dispatch, MakeQueue, Step, Tell, key_of
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.facts import BotStopped, BotStopRequested, TaskCancelled, TaskExpired
from shared.contracts.orchestrator.protocol import CancelRun, Heartbeat, HeartbeatAnswer, Held
from shared.contracts.words import BotId, TaskId
from tests.services.orchestrator.builders import (
    ALPHA,
    ASK,
    SECOND,
    T1,
    assigned,
    came_up,
    died,
    done,
    failed,
    lost,
    report,
    restarted,
    retired,
    silent,
    started,
    stop_requested,
    submitted,
    task,
    withdrawn,
)
from tests.services.orchestrator.scenes import ALL, Stage

TOKEN = 4


def assigned_stage(owned: frozenset[int] = ALL, **changes: object) -> Stage:
    """Alpha is up and has a task under TOKEN; its assignment was sent."""
    stage = Stage(owned)
    stage.up("alpha")
    stage.tell(submitted(**changes))
    stage.tell(assigned())
    assert stage.sequence == TOKEN
    stage.liveness.dispatched(TOKEN, stage.mono)
    return stage


def passed(stage: Stage) -> list[object]:
    return [
        step.command if isinstance(step, Decide) else step
        for step in reactions.passed(stage.scene, stage.moment)
    ]


def commands(steps: list[Step]) -> list[object]:
    return [step.command for step in steps if isinstance(step, Decide)]


def test_an_assigned_task_is_dispatched_with_all_that_the_bot_needs() -> None:
    stage = Stage()
    stage.up("alpha")
    change = stage.tell(submitted(deadline=stage.utc + SECOND, retry=ASK, input="in"), assigned())
    (step,) = reactions.after(stage.scene, change, stage.moment)

    assert isinstance(step, Dispatch)
    sent = step.assignment
    assert (step.bot_id, sent.task_id, sent.token, sent.attempt) == (ALPHA, T1, 3, 1)
    assert (sent.content, sent.input, sent.timeout_s, sent.chain) == ("fix it", "in", 60.0, "chain-1")
    assert (sent.side_effects, sent.deadline) == (ASK.side_effects, stage.utc + SECOND)
    assert key_of(step) == ("dispatch", T1, "3")


def test_what_is_not_ours_is_left_to_its_owner() -> None:
    stage = Stage(owned=ALL - {partition_of(T1)})
    stage.up("alpha")
    change = stage.tell(submitted(), assigned())
    assert reactions.after(stage.scene, change, stage.moment) == []
    stage.later(20)
    stage.beat("alpha")
    assert passed(stage) == []


def test_an_assignment_that_was_perhaps_never_sent_is_sent_again_once_its_bot_is_heard() -> None:
    stage = assigned_stage()
    stage.liveness.leases[TOKEN].dispatched_at = None
    stage.liveness.restart(stage.mono + 0.1)  # a take-over: the bot may hold it for long
    stage.later(1)
    assert passed(stage) == []
    stage.beat("alpha")
    (step,) = passed(stage)
    assert isinstance(step, Dispatch)


def test_an_assignment_that_its_bot_names_after_a_take_over_is_not_sent_again() -> None:
    stage = assigned_stage()
    stage.liveness.leases[TOKEN].dispatched_at = None
    stage.liveness.restart(stage.mono + 0.1)
    stage.later(1)
    stage.beat("alpha", TOKEN)
    assert passed(stage) == []


def test_an_assignment_not_taken_in_time_is_withdrawn() -> None:
    stage = assigned_stage()
    stage.later(2)
    stage.beat("alpha")
    assert passed(stage) == []
    stage.later(0.1)
    assert passed(stage) == []
    stage.beat("alpha")
    assert passed(stage) == [WithdrawAssignment(task_id=T1, token=TOKEN, reason="not_taken")]


def test_a_task_that_outlives_the_heartbeat_that_named_it_has_started() -> None:
    stage = assigned_stage()
    stage.beat("alpha", TOKEN)
    stage.later(1)
    stage.beat("alpha", TOKEN)
    assert passed(stage) == [NoteTaskStarted(task_id=T1, token=TOKEN)]
    change = stage.tell(started(TOKEN))
    assert reactions.after(stage.scene, change, stage.moment) == []
    assert passed(stage) == []


def test_work_that_may_not_run_twice_starts_by_its_claim_only() -> None:
    stage = assigned_stage(retry=ASK)
    stage.beat("alpha", TOKEN)
    stage.later(1)
    stage.beat("alpha", TOKEN)
    assert passed(stage) == []


def test_the_attempts_of_a_silent_bot_are_lost() -> None:
    stage = assigned_stage()
    steps = reactions.after(stage.scene, stage.tell(silent()), stage.moment)
    assert commands(steps) == [LoseAttempt(task_id=T1, token=TOKEN, reason="bot_silent")]


def test_the_attempts_of_a_dead_stopped_or_retired_bot_are_lost() -> None:
    for fact, reason in [
        (died(), "bot_died"),
        (restarted(), "bot_restarted"),
        (retired(), "bot_retired"),
    ]:
        stage = assigned_stage()
        steps = reactions.after(stage.scene, stage.tell(fact), stage.moment)
        assert LoseAttempt(task_id=T1, token=TOKEN, reason=reason) in commands(steps)


def test_a_stopping_bot_may_finish_what_it_does() -> None:
    stage = assigned_stage()
    steps = reactions.after(stage.scene, stage.tell(stop_requested()), stage.moment)
    assert commands(steps) == []
    steps = reactions.after(stage.scene, stage.tell(BotStopped(bot_id=ALPHA, generation=1)), stage.moment)
    assert commands(steps) == [LoseAttempt(task_id=T1, token=TOKEN, reason="bot_stopped")]


def test_what_an_earlier_process_was_given_is_lost_when_the_next_is_up() -> None:
    stage = assigned_stage()
    stage.tell(restarted())
    stage.tell(came_up(generation=2))
    stage.beat("alpha", generation=2)
    assert passed(stage) == [LoseAttempt(task_id=T1, token=TOKEN, reason="bot_restarted")]


def test_an_attempt_far_beyond_its_time_out_is_lost() -> None:
    stage = assigned_stage()
    stage.tell(started(TOKEN))
    for _ in range(70):  # its 60 s and the grace
        stage.later(1)
        stage.beat("alpha", TOKEN)
    assert passed(stage) == []
    stage.later(0.5)
    assert passed(stage) == [LoseAttempt(task_id=T1, token=TOKEN, reason="timed_out")]


def test_an_attempt_that_its_bot_forgot_is_lost() -> None:
    stage = assigned_stage(timeout_s=3600.0)
    stage.beat("alpha", TOKEN)
    stage.later(31)
    stage.beat("alpha")
    assert passed(stage) == [LoseAttempt(task_id=T1, token=TOKEN, reason="no_longer_held")]


def test_a_task_past_its_deadline_expires_also_while_it_runs() -> None:
    stage = assigned_stage(deadline=Stage().utc + SECOND)
    stage.beat("alpha", TOKEN)
    stage.later(1)
    assert ExpireTask(task_id=T1) in passed(stage)


def test_the_bot_of_a_task_that_is_cancelled_or_expired_is_told() -> None:
    for fact, reason in [
        (TaskCancelled(task_id=T1, reason="asked", bot_id=ALPHA), "cancelled"),
        (TaskExpired(task_id=T1, deadline=Stage().utc, bot_id=ALPHA), "expired"),
        (withdrawn(TOKEN), "withdrawn"),
        (lost(TOKEN), "withdrawn"),
    ]:
        stage = assigned_stage()
        steps = reactions.after(stage.scene, stage.tell(fact), stage.moment)
        assert steps == [Tell(ALPHA, CancelRun(task_id=T1, token=TOKEN, reason=reason))]


def test_a_bot_that_reported_the_end_itself_is_not_told() -> None:
    stage = assigned_stage()
    assert reactions.after(stage.scene, stage.tell(failed(TOKEN)), stage.moment) == []
    stage = assigned_stage()
    facts = task(submitted(), assigned()).when(report(done())).answer
    assert isinstance(facts, list)
    ended = [
        facts[0],
        type(facts[1])(**{**{f: getattr(facts[1], f) for f in facts[1].__struct_fields__}, "token": TOKEN}),
    ]
    assert reactions.after(stage.scene, stage.tell(*ended), stage.moment) == []


def test_a_freed_slot_goes_to_who_waits() -> None:
    stage = assigned_stage()
    stage.tell(submitted("t2"))
    change = stage.tell(TaskCancelled(task_id=T1, reason="asked", bot_id=ALPHA))
    assert reactions.freed(change) == ALPHA
    (step,) = reactions.fill(stage.scene, {ALPHA}, stage.moment)
    assert isinstance(step, Decide)
    assert isinstance(step.command, AssignTask)
    assert (step.command.task_id, step.command.bot_id) == ("t2", ALPHA)


def test_todo_gives_a_due_retry_away() -> None:
    stage = assigned_stage()
    stage.tell(failed(TOKEN, retry_at=stage.utc + SECOND))
    assert reactions.todo(stage.scene, stage.moment) == []
    stage.later(1)
    stage.beat("alpha")
    (step,) = reactions.todo(stage.scene, stage.moment)
    assert isinstance(step, Decide)
    assert isinstance(step.command, AssignTask)


def beat(*tokens: int, generation: int = 1, bot_id: str = ALPHA, task_id: str = T1) -> Heartbeat:
    held = tuple(Held(task_id=TaskId(task_id), token=token) for token in tokens)
    return Heartbeat(
        bot_id=ALPHA if bot_id == ALPHA else type(ALPHA)(bot_id),
        generation=generation,
        pid=1,
        host="local",
        held=held,
    )


def test_a_heartbeat_is_answered_with_the_attempts_that_are_still_the_bots() -> None:
    stage = assigned_stage()
    assert reactions.answer(stage.board, beat(TOKEN)) == HeartbeatAnswer(held=(TOKEN,))
    stage.tell(withdrawn(TOKEN))
    assert reactions.answer(stage.board, beat(TOKEN)) == HeartbeatAnswer()


def test_a_token_newer_than_what_we_have_seen_counts_as_held() -> None:
    stage = assigned_stage()
    assert reactions.answer(stage.board, beat(99, task_id="t9")) == HeartbeatAnswer(held=(99,))


def test_a_token_of_another_bot_is_not_held() -> None:
    stage = assigned_stage()
    stage.up("beta")
    assert reactions.answer(stage.board, beat(TOKEN, bot_id="beta")) == HeartbeatAnswer()


def test_a_stopping_bot_is_told_to_drain_and_one_that_is_not_wanted_to_stop() -> None:
    stage = assigned_stage()
    assert reactions.answer(stage.board, beat(generation=2)) == HeartbeatAnswer(stop=True)
    assert reactions.answer(stage.board, beat(bot_id="nobody")) == HeartbeatAnswer(stop=True)
    stage.tell(stop_requested())
    assert reactions.answer(stage.board, beat(TOKEN)) == HeartbeatAnswer(held=(TOKEN,), drain=True)
    stage.tell(BotStopped(bot_id=ALPHA, generation=1))
    assert reactions.answer(stage.board, beat(TOKEN)) == HeartbeatAnswer(stop=True)


def test_a_queue_that_a_restart_of_the_broker_took_is_made_again_until_it_is_there() -> None:
    stage = Stage()
    stage.up("alpha")
    stage.up("beta")
    assert passed(stage) == []

    stage.scene.queues.restart()

    assert passed(stage) == [MakeQueue(BotId("alpha")), MakeQueue(BotId("beta"))]
    stage.scene.queues.made(BotId("alpha"))
    assert passed(stage) == [MakeQueue(BotId("beta"))]


def test_the_queues_of_others_and_of_bots_without_a_process_are_left_alone() -> None:
    stage = Stage(owned=ALL - {partition_of("alpha")})
    stage.up("alpha")
    stage.up("beta")
    stage.tell(
        BotStopRequested(bot_id=BotId("beta"), generation=1), BotStopped(bot_id=BotId("beta"), generation=1)
    )

    stage.scene.queues.restart()

    assert [step for step in passed(stage) if isinstance(step, MakeQueue)] == []
