"""Any commands in any order at any time: the promises about tasks and bots hold."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.orchestrator.commands import (
    AssignTask,
    CancelOrphan,
    ExpireTask,
    FailDependent,
    LoseAttempt,
    MendCircuit,
    NoteBotCleared,
    NoteBotDead,
    NoteBotHeard,
    NoteBotSilent,
    NoteBotStopped,
    NoteBotUp,
    NoteLaunchFailed,
    NoteTaskStarted,
    ReleaseTask,
    RestartDeadBot,
    TaskWish,
    TripCircuit,
    TryCircuit,
    WithdrawAssignment,
)
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.decider.bot_state import Bot, NoBot, Restarting
from services.orchestrator.decider.task_state import Held, Task
from services.orchestrator.facts import BOT_CODEC, TASK_CODEC
from shared.contracts.orchestrator.commands import (
    CancelTask,
    ClaimTask,
    CloseCircuit,
    LaunchBot,
    OpenCircuit,
    ReportBotExit,
    ReportTask,
    RestartBot,
    ResumeTask,
    RetireBot,
    StartBot,
    StopBot,
    Stopped,
)
from shared.contracts.orchestrator.facts import (
    AttemptFailed,
    AttemptLost,
    BotLaunched,
    BotSpec,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    DependenciesMet,
    RetryPolicy,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskSubmitted,
    TreeCancelled,
)
from shared.contracts.words import BotId, SideEffects, TaskId
from shared.kernel.codec import encode
from shared.kernel.decider import Decider
from shared.kernel.errors import Rejected
from tests.services.orchestrator.builders import (
    ALPHA,
    BETA,
    DECISION,
    T1,
    done,
    place,
    report,
    stopped,
    submit,
    undone,
)
from tests.support.scenario import NOON

ENDS = (TaskCompleted, TaskFailed, TaskCancelled, TaskExpired)
CIRCUIT = (CircuitOpened, CircuitHalfOpened, CircuitClosed)
BOTS = st.sampled_from([ALPHA, BETA])
LATER = st.timedeltas(timedelta(0), timedelta(minutes=2))


class Life(RuleBasedStateMachine):
    """One aggregate, decided and stored as the handler does it."""

    decider: Decider[Any, Any, Any]
    codec: Any

    def __init__(self) -> None:
        super().__init__()
        self.state = self.decider.initial
        self.facts: list[Any] = []
        self.sequence = 0
        self.at: datetime = NOON

    def send(self, command: Any) -> None:
        try:
            facts = self.decider.decide(self.state, command, self.at)
        except Rejected:
            return
        if facts:
            self.sequence += 1
            stored = self.codec.decode_all([encode(fact) for fact in facts])
            assert list(stored) == facts
            self.state = self.decider.fold(self.state, stored, self.sequence, self.at)
            self.facts += facts
        assert self.again(command) == []  # asked twice, decided once

    def again(self, command: Any) -> list[Any]:
        return self.decider.decide(self.state, command, self.at)

    @rule(later=LATER)
    def wait(self, later: timedelta) -> None:
        self.at += later


class TaskLife(Life):
    decider = TASK
    codec = TASK_CODEC
    state: Task

    def again(self, command: Any) -> list[Any]:
        """An attempt that its bot gave up is lost like any other: what is said about it later is stale."""
        try:
            return super().again(command)
        except Rejected as rejected:
            gave_up = isinstance(command, ReportTask) and isinstance(command.end, Stopped)
            if gave_up and rejected.code == "stale_token":
                return []
            raise

    @rule(
        side_effects=st.sampled_from(SideEffects),
        attempts_max=st.integers(1, 3),
        deadline=st.none() | st.integers(0, 600),
        placed=st.booleans(),
        after=st.sampled_from([(), (), (TaskId("other"),)]),
    )
    def submit(
        self,
        side_effects: SideEffects,
        attempts_max: int,
        deadline: int | None,
        after: tuple[TaskId, ...],
        *,
        placed: bool,
    ) -> None:
        submission = submit(
            retry=RetryPolicy(side_effects=side_effects, attempts_max=attempts_max),
            deadline=None if deadline is None else NOON + timedelta(seconds=deadline),
            after=after,
        )
        command: TaskWish = place(submission) if placed else submission
        self.send(command)

    @rule(bot_id=BOTS)
    def assign(self, bot_id: BotId) -> None:
        self.send(AssignTask(task_id=T1, bot_id=bot_id, decision=DECISION))

    @rule(
        bot_id=BOTS,
        back=st.integers(0, 2),
        end=st.sampled_from(
            [done(), undone(), undone(retryable=False), stopped(begun=True), stopped(begun=False)]
        ),
    )
    def report(self, bot_id: BotId, back: int, end: Any) -> None:
        before, token = self.state, self.token(back)
        count = len(self.facts)
        self.send(report(end, token=token, bot_id=bot_id))
        if len(self.facts) > count:
            assert isinstance(before, Held)
            assert (before.bot_id, before.token) == (bot_id, token)

    @rule(bot_id=BOTS, back=st.integers(0, 2))
    def claim(self, bot_id: BotId, back: int) -> None:
        self.send(ClaimTask(task_id=T1, bot_id=bot_id, token=self.token(back)))

    @rule(back=st.integers(0, 2), kind=st.sampled_from([WithdrawAssignment, LoseAttempt]))
    def take_away(self, back: int, kind: type[WithdrawAssignment | LoseAttempt]) -> None:
        self.send(kind(task_id=T1, token=self.token(back), reason="why"))

    @rule(back=st.integers(0, 2))
    def start(self, back: int) -> None:
        self.send(NoteTaskStarted(task_id=T1, token=self.token(back)))

    @rule(
        command=st.sampled_from(
            [
                ExpireTask(task_id=T1),
                ResumeTask(task_id=T1),
                ReleaseTask(task_id=T1),
                ReleaseTask(task_id=T1),
                FailDependent(
                    task_id=T1, error=TaskError(code="dependency_failed", detail="other is failed")
                ),
            ]
        )
    )
    def other(self, command: TaskWish) -> None:
        self.send(command)

    @rule(sure=st.sampled_from([True, False, False, False]))
    def cancel(self, *, sure: bool) -> None:
        if sure:
            self.send(CancelTask(task_id=T1))

    @rule(sure=st.sampled_from([True, False, False]))
    def cancel_tree(self, *, sure: bool) -> None:
        if sure:
            self.send(CancelTask(task_id=T1, tree=True))

    @rule()
    def cancel_orphan(self) -> None:
        if isinstance(self.state, Held):
            self.send(CancelOrphan(task_id=T1, reason="its parent p is failed"))

    def token(self, back: int) -> int:
        """The current token, or an older one that may have been."""
        current = self.state.token if isinstance(self.state, Held) else self.sequence
        return current - back

    @invariant()
    def it_is_submitted_once(self) -> None:
        assert sum(isinstance(fact, TaskSubmitted) for fact in self.facts) <= 1

    @invariant()
    def who_comes_after_others_is_begun_when_they_are_met(self) -> None:
        submitted = [fact for fact in self.facts if isinstance(fact, TaskSubmitted)]
        if submitted and submitted[0].after and any(isinstance(fact, TaskAssigned) for fact in self.facts):
            kinds = [type(fact) for fact in self.facts]
            assert kinds[1] is DependenciesMet
            assert kinds.count(DependenciesMet) == 1

    @invariant()
    def it_ends_once_and_stays_ended(self) -> None:
        facts = [fact for fact in self.facts if not isinstance(fact, TreeCancelled)]
        ends = [index for index, fact in enumerate(facts) if isinstance(fact, ENDS)]
        assert ends in ([], [len(facts) - 1])

    @invariant()
    def its_tree_is_cancelled_apart_only_when_it_has_completed_and_once(self) -> None:
        if any(isinstance(fact, TreeCancelled) for fact in self.facts):
            assert [type(fact) for fact in self.facts[-2:]] == [TaskCompleted, TreeCancelled]

    @invariant()
    def it_has_one_holder_at_a_time(self) -> None:
        holder: BotId | None = None
        for fact in self.facts:
            match fact:
                case TaskAssigned():
                    assert holder is None
                    holder = fact.bot_id
                case TaskStarted() | TaskCompleted():
                    assert holder == fact.bot_id
                case TaskSubmitted() | TaskResumed():
                    assert holder is None
                case TaskCancelled() | TaskExpired():
                    assert holder == fact.bot_id
                case TaskFailed() | TreeCancelled():
                    assert holder is None
                case _:
                    holder = None

    @invariant()
    def attempts_are_counted_and_never_more_than_allowed(self) -> None:
        ended = [fact for fact in self.facts if isinstance(fact, AttemptFailed | AttemptLost)]
        assert [fact.attempt for fact in ended] == list(range(1, len(ended) + 1))
        submitted = [fact for fact in self.facts if isinstance(fact, TaskSubmitted)]
        resumed = sum(isinstance(fact, TaskResumed) for fact in self.facts)
        completed = sum(isinstance(fact, TaskCompleted) for fact in self.facts)
        if submitted:
            assert len(ended) + completed <= submitted[0].retry.attempts_max + resumed


class BotLife(Life):
    decider = BOT
    codec = BOT_CODEC
    state: Bot

    @rule(engine=st.sampled_from(["echo", "shell"]))
    def launch(self, engine: str) -> None:
        self.send(LaunchBot(bot_id=ALPHA, spec=BotSpec(engine=engine)))

    @rule(kind=st.sampled_from([StartBot, StopBot, RestartBot]))
    def ask(self, kind: type[StartBot | StopBot | RestartBot]) -> None:
        if kind is StopBot or kind is StartBot:
            self.send(kind(bot_id=ALPHA))
            return
        self.send(RestartBot(bot_id=ALPHA))

    @rule(sure=st.sampled_from([True, False, False]))
    def retire(self, *, sure: bool) -> None:
        if sure:
            self.send(RetireBot(bot_id=ALPHA))

    @rule(
        back=st.integers(0, 1),
        kind=st.sampled_from([NoteBotSilent, NoteBotHeard, NoteBotStopped, NoteBotCleared, RestartDeadBot]),
    )
    def note(self, back: int, kind: Any) -> None:
        self.send(kind(bot_id=ALPHA, generation=self.generation(back)))

    @rule(back=st.integers(0, 1))
    def come_up(self, back: int) -> None:
        self.send(NoteBotUp(bot_id=ALPHA, generation=self.generation(back), pid=1, host="local"))

    @rule(back=st.integers(0, 1))
    def exit(self, back: int) -> None:
        self.send(ReportBotExit(bot_id=ALPHA, generation=self.generation(back), reason="exit 1"))

    @rule(back=st.integers(0, 1))
    def die(self, back: int) -> None:
        self.send(
            NoteBotDead(
                bot_id=ALPHA,
                generation=self.generation(back),
                reason="gone",
                seen_at=self.at,
                crashed=back == 0,
            )
        )

    @rule()
    def fail_to_launch(self) -> None:
        error = TaskError(code="no_engine", detail="`engine`")
        self.send(NoteLaunchFailed(bot_id=ALPHA, generation=self.generation(0), error=error))

    @rule(back=st.integers(0, 1), kind=st.sampled_from([TripCircuit, TryCircuit, MendCircuit]))
    def circuit(self, back: int, kind: Any) -> None:
        since = 0 if isinstance(self.state, NoBot) else self.state.circuit.since - back
        more = {"reason": "why", "failures": 5, "attempts": 8, "for_s": 60.0}
        self.send(
            kind(
                bot_id=ALPHA,
                since=since,
                **{key: value for key, value in more.items() if key in kind.__struct_fields__},
            )
        )

    @rule(kind=st.sampled_from([OpenCircuit, CloseCircuit]))
    def ask_circuit(self, kind: Any) -> None:
        self.send(kind(bot_id=ALPHA))

    @rule()
    def wait_until_due(self) -> None:
        if isinstance(self.state, Restarting):
            self.at = max(self.at, self.state.restart_at)

    def generation(self, back: int) -> int:
        return 1 if isinstance(self.state, NoBot) else max(1, self.state.generation - back)

    @invariant()
    def generations_only_grow(self) -> None:
        told = [fact.generation for fact in self.facts if not isinstance(fact, CIRCUIT)]
        assert told == sorted(told)

    @invariant()
    def an_open_circuit_is_tried_or_asked_for_before_it_closes(self) -> None:
        state = "closed"
        for fact in self.facts:
            match fact:
                case BotLaunched():
                    state = "closed"
                case CircuitOpened():
                    assert not fact.trial or state == "half open"
                    state = "open"
                case CircuitHalfOpened():
                    assert state == "open"
                    state = "half open"
                case CircuitClosed():
                    assert state == "half open" or (state == "open" and fact.reason == "asked")
                    state = "closed"
                case _:
                    pass


TestTaskLife = TaskLife.TestCase
TestBotLife = BotLife.TestCase
