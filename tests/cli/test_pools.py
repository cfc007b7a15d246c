"""How pools are configured, listed and explained from the command line."""

from typing import Any

from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.pools import PoolDecision, PoolDoc, PoolName, Readings
from shared.contracts.words import BotId
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, document, page, problem

NAME = PoolName("coders")
READINGS = Readings(
    size=2, queue=12, bots_up=2, slots=6, held=6, load=1.0, bot_load=1.0, cpu_share=0.4, memory_share=0.5
)


def decision(**more: Any) -> PoolDecision:
    given: dict[str, Any] = {
        "decision": "up",
        "before": 2,
        "after": 4,
        "code": "queue",
        "reason": "12 tasks wait",
        "at": NOON,
        "readings": READINGS,
    }
    return PoolDecision(**given | more)


def pool(**more: Any) -> PoolDoc:
    given: dict[str, Any] = {
        "name": NAME,
        "version": 7,
        "enabled": True,
        "min": 1,
        "max": 5,
        "size": 2,
        "template": BotSpec(engine="echo", slots=2, pool="coders"),
        "bots": (BotId("coders-1"), BotId("coders-2")),
        "leaving": (),
        "scaled_at": None,
        "changed_at": NOON,
        "now": decision(),
    }
    return PoolDoc(**given | more)


def test_pools_are_listed_with_what_each_would_do_now(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/pools", page(pool()))
    result = run("pools")
    assert result.exit_code == 0, result.output
    assert "coders" in result.output
    assert "12 tasks wait" in result.output


def test_a_new_pool_is_what_was_typed(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/pools/coders", problem(404, "pool_not_found", "there is no pool coders"))
    hive.on("PUT /v1/pools/coders", document(pool()))
    result = run("scale", "coders", "--min", "1", "--max", "5", "--engine", "echo", "--slots", "2")
    assert result.exit_code == 0, result.output
    assert hive.body() == {"min": 1, "max": 5, "template": {"engine": "echo", "slots": 2}}
    assert "1 to 5 bots, 2 now; up to 4: 12 tasks wait" in result.output


def test_what_is_not_said_stays_as_it_is(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/pools/coders", document(pool()))
    hive.on("PUT /v1/pools/coders", document(pool(max=9)))
    assert run("scale", "coders", "--max", "9").exit_code == 0
    assert hive.body() == {"min": 1, "max": 9, "enabled": True}
    assert run("scale", "coders", "--slots", "4").exit_code == 0
    template = hive.body()["template"]
    assert (template["engine"], template["slots"]) == ("echo", 4)
    assert "pool" not in template


def test_a_new_pool_needs_an_engine(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/pools/coders", problem(404, "pool_not_found", "there is no pool coders"))
    result = run("scale", "coders", "--slots", "2")
    assert result.exit_code == 2
    assert "--engine" in result.output


def test_a_pool_explains_itself(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/pools/coders", document(pool()))
    hive.on(
        "GET /v1/pools/coders/decisions",
        page(decision(decision="hold", before=5, after=5, reason="5 bots are all", sequence=9)),
    )
    result = run("scale", "coders", "--explain")
    assert result.exit_code == 0, result.output
    for told in ("up to 4: 12 tasks wait", "5 bots are all", "cpu 40%", "memory 50%", "6 of 6 taken"):
        assert told in result.output


def test_explaining_changes_nothing(run: Run) -> None:
    assert run("scale", "coders", "--explain", "--max", "3").exit_code == 2
