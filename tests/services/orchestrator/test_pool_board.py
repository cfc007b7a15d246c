"""What a pool is seen to be like, and what its decisions still ask for."""

from typing import Any

from services.orchestrator.decider.pool import POOL, Pool
from services.orchestrator.pool_board import Pools
from services.orchestrator.pool_commands import ScalePool
from services.orchestrator.pooling import Pooling
from shared.contracts.orchestrator.commands import LaunchBot, RetireBot, StopBot
from shared.contracts.orchestrator.facts import BotCameUp, BotRetired, BotSpec, BotStopped, BotStopRequested
from shared.contracts.orchestrator.pools import PoolName, PoolScaled
from shared.contracts.orchestrator.protocol import HostReport
from shared.contracts.words import BotId, TaskId
from shared.kernel.messages import Cause, Recorded
from tests.services.orchestrator.builders import assigned, completed, launched, submitted
from tests.services.orchestrator.scenes import ALL, Stage
from tests.services.orchestrator.test_pool import configured, scaled

CODERS = PoolName("coders")
FIRST, SECOND = BotId("coders-1"), BotId("coders-2")
SPEC = BotSpec(engine="echo", pool="coders")


class PoolStage(Stage):
    """A scene with pools in it."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = Pools(self.scene)
        self.later(10)
        self.hosts(cpu_share=0.1)

    def hosts(self, **more: Any) -> None:
        report = HostReport(host_id="local", running=(), engines=("echo",), **{"memory_share": 0.1, **more})
        self.scene.hosts.hear(report, self.utc, self.mono)

    def told(self, *facts: Any) -> None:
        """A commit of the pool."""
        self.sequence += 1
        self.pools.take(
            Recorded(
                facts=facts,
                commit_id=f"c{self.sequence}",
                aggregate="pool",
                aggregate_id=CODERS,
                sequence=self.sequence,
                at=self.utc,
                cause=Cause(message_id=f"m{self.sequence}", correlation_id="x", actor="k"),
            )
        )

    @property
    def pool(self) -> Pool:
        return self.pools.kept[CODERS].state

    def look(self) -> ScalePool:
        return self.pools.look(self.pool, self.moment)

    def asks(self) -> list[Any]:
        return [change.command for change in self.pools.outstanding(self.moment)]

    def two_bots(self) -> None:
        self.told(configured())
        self.told(scaled("up", FIRST, SECOND))
        self.up(FIRST, SPEC)
        self.up(SECOND, SPEC)


def test_what_was_decided_is_launched_until_it_is_there() -> None:
    stage = PoolStage()
    stage.told(configured())
    stage.told(scaled("up", FIRST))
    assert stage.asks() == [LaunchBot(bot_id=FIRST, spec=SPEC)]
    assert stage.look().readings.size == 1
    stage.tell(launched(FIRST, SPEC))
    assert stage.asks() == []
    assert stage.look().readings.size == 1


def test_nothing_is_decided_before_hosts_and_bots_could_be_heard() -> None:
    stage = PoolStage()
    stage.told(configured())
    stage.liveness.restart(stage.mono)
    assert list(stage.pools.ours(stage.moment)) == []
    stage.later(2)
    assert [kept.state.name for kept in stage.pools.ours(stage.moment)] == [CODERS]


def test_a_queue_is_what_the_bots_of_the_pool_could_do() -> None:
    stage = PoolStage()
    stage.told(configured())
    stage.tell(submitted("any"))
    stage.tell(submitted("named", pool="coders"))
    stage.tell(submitted("other", pool="writers"))
    stage.tell(submitted("for-alpha", bot="alpha"))
    stage.tell(submitted("shell", engine="shell"))
    assert stage.look().readings.queue == 2


def test_slots_loads_and_idle_times_are_of_the_bots_of_the_pool() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.up("alpha")
    stage.look()
    stage.tell(submitted("t1", pool="coders"), assigned(FIRST))
    stage.later(7)
    stage.hosts(cpu_share=0.5)
    asked = stage.look()
    now = asked.readings
    assert (now.size, now.bots_up, now.slots, now.held) == (2, 2, 6, 1)
    assert (now.load, now.bot_load, now.cpu_share) == (0.1667, 0.1667, 0.5)
    assert [(each.bot_id, each.idle_s) for each in asked.idle] == [(SECOND, 7.0)]
    assert asked.names[:2] == ("coders-3", "coders-4")


def test_a_bot_that_had_something_between_two_looks_was_not_idle() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.look()
    stage.later(100)
    for commit in ([submitted("t1"), assigned(FIRST)], [completed(token=2)]):
        stage.pools.heard(
            Recorded(
                facts=tuple(commit),
                commit_id="c",
                aggregate="task",
                aggregate_id=TaskId("t1"),
                sequence=1,
                at=stage.utc,
                cause=Cause(message_id="m", correlation_id="x", actor="k"),
            ),
            stage.mono,
        )
    idle = {each.bot_id: each.idle_s for each in stage.look().idle}
    assert idle == {FIRST: 0.0, SECOND: 100.0}


def test_a_bot_that_was_given_up_is_given_nothing_and_stopped_once_it_holds_nothing() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.tell(submitted("t1", pool="coders"), assigned(FIRST))
    stage.told(scaled("down", FIRST, before=2))
    assert stage.board.free(FIRST) == 0
    stage.later(2)
    assert stage.asks() == []
    stage.tell(completed(token=stage.sequence - 1))
    assert stage.asks() == [StopBot(bot_id=FIRST)]
    stage.tell(BotStopRequested(bot_id=FIRST, generation=1))
    assert stage.asks() == []
    stage.tell(BotStopped(bot_id=FIRST, generation=1))
    assert stage.asks() == [RetireBot(bot_id=FIRST)]
    stage.tell(BotRetired(bot_id=FIRST, generation=1))
    assert stage.asks() == []
    assert stage.look().readings.size == 1


def test_it_is_not_stopped_before_everybody_who_places_tasks_can_know() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.told(scaled("down", FIRST, before=2))
    assert stage.asks() == []
    stage.later(1)
    assert stage.asks() == [StopBot(bot_id=FIRST)]


def test_who_is_to_go_gets_nothing_while_that_is_decided_and_something_again_if_not() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.look()
    stage.later(301)
    stage.hosts(cpu_share=0.1)
    stage.beat(FIRST)
    stage.beat(SECOND)
    pooling = Pooling(stage.pools, stage.board, moment=lambda: stage.moment, owned=lambda: ALL)
    asked = pooling.prepare(stage.pool, stage.look())
    (fact,) = POOL.decide(stage.pool, asked, stage.utc)
    assert isinstance(fact, PoolScaled)
    assert fact.bots == (FIRST,)
    assert stage.board.free(FIRST) == 0
    pooling.released(asked)
    assert stage.board.free(FIRST) == 3


def test_a_bot_that_somebody_launches_again_under_its_name_is_not_the_pools() -> None:
    stage = PoolStage()
    stage.two_bots()
    stage.told(scaled("down", FIRST, before=2))
    stage.tell(launched(FIRST, SPEC, 2))
    stage.tell(BotCameUp(bot_id=FIRST, generation=2, pid=8, host="local"))
    stage.later(5)
    assert stage.asks() == []
    assert stage.board.free(FIRST) == 3
    assert FIRST not in {each.bot_id for each in stage.look().idle}
