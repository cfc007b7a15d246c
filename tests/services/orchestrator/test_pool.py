"""The life of a pool: what people ask of it, what it decides, and what it remembers of that."""

from datetime import timedelta
from typing import Any

from services.orchestrator.decider.pool import POOL, Pool
from services.orchestrator.pool_commands import Idle, ScalePool
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.pools import ConfigurePool, PoolConfigured, PoolName, PoolScaled
from shared.contracts.scaling import Scaling
from shared.contracts.words import BotId
from tests.services.orchestrator.test_scaling import readings
from tests.support.scenario import NOON, given

CODERS = PoolName("coders")
ECHO = BotSpec(engine="echo", pool="coders")
NAMES = tuple(BotId(f"coders-{number}") for number in range(1, 11))
OLD = (Idle(BotId("coders-1"), 400.0),)


def configured(**changes: Any) -> PoolConfigured:
    fields: dict[str, Any] = {"name": CODERS, "min": 1, "max": 10, "template": ECHO}
    return PoolConfigured(**fields | changes)


def configure(**changes: Any) -> ConfigurePool:
    fields: dict[str, Any] = {"name": CODERS, "template": BotSpec(engine="echo")}
    return ConfigurePool(**fields | changes)


def look(about: int = 1, idle: tuple[Idle, ...] = (), **changes: Any) -> ScalePool:
    return ScalePool(
        name=CODERS, about=about, readings=readings(**changes), rules=Scaling(), idle=idle, names=NAMES
    )


def scaled(decision: Any, *bots: str, before: int = 0, code: str = "queue") -> PoolScaled:
    after = before + len(bots) * {"up": 1, "down": -1, "hold": 0}[decision]
    return PoolScaled(
        name=CODERS,
        decision=decision,
        before=before,
        after=after,
        bots=tuple(map(BotId, bots)),
        code=code,
        reason="because",
        readings=readings(),
    )


def test_the_bots_of_a_pool_are_of_that_pool() -> None:
    given(POOL).when(configure(template=BotSpec(engine="echo", pool="other"))).then(configured())


def test_asked_twice_it_is_configured_once_and_keeps_its_template() -> None:
    given(POOL, configured()).when(configure()).then_nothing()
    given(POOL, configured()).when(configure(template=None, max=3)).then(configured(max=3))


def test_a_new_pool_without_a_template_and_bounds_the_wrong_way_round_are_refused() -> None:
    given(POOL).when(configure(template=None)).then_rejected("template_missing")
    given(POOL).when(configure(min=5, max=4)).then_rejected("bad_bounds")
    given(POOL).when(configure(template=BotSpec(engine="external"))).then_rejected("bad_template")


def test_a_decision_names_its_bots_its_reason_and_its_readings() -> None:
    (fact,) = given(POOL, configured()).when(look(queue=12)).then_kinds(PoolScaled)
    assert isinstance(fact, PoolScaled)
    assert (fact.decision, fact.before, fact.after, fact.bots) == ("up", 2, 4, NAMES[:2])
    assert (fact.code, fact.readings.queue) == ("queue", 12)


def test_of_two_who_look_at_the_same_version_one_scales() -> None:
    past = given(POOL, configured(), scaled("up", "coders-1"))
    past.when(look(about=1, queue=12), at=NOON + timedelta(hours=1)).then_nothing()
    past.when(look(about=2, queue=12), at=NOON + timedelta(hours=1)).then_kinds(PoolScaled)


def test_the_pause_counts_from_the_last_fact_whoever_made_it() -> None:
    past = given(POOL, configured(), scaled("up", "coders-1"))
    past.when(look(about=2, queue=12), at=NOON + timedelta(seconds=29)).then_nothing()
    past.when(look(about=2, queue=12), at=NOON + timedelta(seconds=30)).then_kinds(PoolScaled)


def test_a_new_pool_that_is_flooded_grows_without_a_pause() -> None:
    past = given(POOL, configured(), scaled("up", "coders-1", code="below_min"))
    past.when(look(about=2, queue=200), at=NOON + timedelta(seconds=1)).then_kinds(PoolScaled)


def test_what_keeps_a_pool_from_growing_is_on_record_once() -> None:
    full = look(queue=12, size=10)
    (fact,) = given(POOL, configured()).when(full).then_kinds(PoolScaled)
    assert isinstance(fact, PoolScaled)
    assert (fact.decision, fact.code, fact.before, fact.after) == ("hold", "at_max", 10, 10)
    held = given(POOL, configured(), scaled("hold", before=10, code="at_max"))
    held.when(look(about=2, queue=12, size=10), at=NOON + timedelta(hours=1)).then_nothing()
    other = look(about=2, queue=12, cpu_share=0.99)
    held.when(other, at=NOON + timedelta(seconds=29)).then_nothing()
    held.when(other, at=NOON + timedelta(seconds=30)).then_kinds(PoolScaled)


def test_who_belongs_to_a_pool_and_who_leaves_it_follows_from_its_facts() -> None:
    pool = given(POOL, configured(), scaled("up", "coders-1", "coders-2"), scaled("down", "coders-1")).state
    assert isinstance(pool, Pool)
    assert [(each.bot_id, each.since) for each in pool.members] == [("coders-2", 2)]
    assert [(each.bot_id, each.since) for each in pool.leaving] == [("coders-1", 3)]
    again = POOL.fold(pool, [scaled("up", "coders-1")], 4, NOON)
    assert isinstance(again, Pool)
    assert [each.bot_id for each in again.members] == ["coders-2", "coders-1"]
    assert again.leaving == ()


def test_a_load_that_comes_and_goes_does_not_let_a_pool_flap() -> None:
    """Twenty seconds of flood, twenty of quiet, for an hour: no bot is idle long enough to go."""
    state = POOL.fold(POOL.initial, [configured(max=4)], 1, NOON)
    size, last_work, decisions = 1, 0, []
    for second in range(3_600):
        flood = second % 40 < 20
        last_work = second if flood else last_work
        asked = look(
            about=getattr(state, "version", 0),
            size=size,
            slots=3 * size,
            queue=20 if flood else 0,
            load=1.0 if flood else 0.0,
            bot_load=1.0 if flood else 0.0,
            idle=() if flood else (Idle(BotId("coders-1"), float(second - last_work)),),
        )
        at = NOON + timedelta(seconds=second)
        facts = POOL.decide(state, asked, at)
        state = POOL.fold(state, facts, second + 2, at)
        for fact in facts:
            assert isinstance(fact, PoolScaled)
            size = fact.after
            decisions.append(fact.decision)
    assert decisions == ["up", "up", "hold"]
    assert size == 4


def test_the_longest_idle_bot_is_given_up() -> None:
    (fact,) = given(POOL, configured()).when(look(idle=OLD)).then_kinds(PoolScaled)
    assert isinstance(fact, PoolScaled)
    assert (fact.decision, fact.bots, fact.after) == ("down", ("coders-1",), 1)
