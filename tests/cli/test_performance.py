"""Which bots are good at what, in the terminal."""

from shared.contracts.scheduler.queries import (
    BotPerformance,
    Interval,
    NotRecommended,
    Outcomes,
    Performance,
    Recommendations,
    Recommended,
    TypePerformance,
    WhatIf,
)
from shared.contracts.scheduler.routing import Standing
from shared.contracts.words import BotId, TaskType
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, document, problem

ALPHA, CODE = BotId("alpha"), TaskType.CODE
KNOWN = Performance(
    bot=ALPHA,
    type=CODE,
    samples=12,
    trusted=True,
    success=0.9,
    speed=0.75,
    score=0.84,
    confidence=0.7,
    trend="improving",
    run_s=1.5,
    tokens=1200.0,
    cost_usd=0.02,
    last_at=NOON,
    sequence=9,
)
STANDING = Standing(
    samples=12,
    successes=10.0,
    failures=1.0,
    success=0.9,
    speed=0.75,
    cost_usd=0.02,
    score=0.84,
    confidence=0.7,
    trend="improving",
    trusted=True,
)


def test_the_best_bots_are_told_with_reasons_and_why_not_the_others(run: Run, hive: FakeHive) -> None:
    first = Recommended(bot=ALPHA, rank=1, standing=STANDING, reasons=("succeeds in 90% of its tasks",))
    other = NotRecommended(bot=BotId("beta"), reason="is stopped")
    told = Recommendations(type=CODE, policy="efficient", sequence=9, ranked=(first,), others=(other,))
    hive.on("GET /v1/recommendations", document(told))

    result = run("recommend", "code")

    assert hive.last.url.params["type"] == "code"
    assert "1     alpha  0.84   70%         12       improving  succeeds in 90% of its tasks" in result.stdout
    assert "not beta: is stopped" in result.stdout
    assert run("recommend", "code", "--json").stdout.startswith("{")
    assert run("recommend", "nonsense").exit_code == 2


def test_a_bot_and_a_type_are_shown(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots/alpha/performance", document(BotPerformance(bot=ALPHA, types=(KNOWN,))))
    spread = {"p50": 1.4, "p95": 3.0}
    by_type = TypePerformance(type=CODE, recent=12, run_s=spread, bots=(KNOWN,))
    hive.on("GET /v1/task-types/code/performance", document(by_type))

    assert "code  0.84" in run("performance", "alpha").stdout
    assert "$0.0200" in run("performance", "show", "alpha").stdout
    result = run("performance", "--type", "code")
    assert "alpha  0.84" in result.stdout
    assert "the last 12 completed ones ran: p50 1.4 s, p95 3 s" in result.stderr


def test_a_bot_nobody_knows_is_not_found_and_both_or_none_is_a_mistake(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots/nobody/performance", problem(404, "bot_not_found", "nothing is known of it"))
    assert run("performance", "nobody").exit_code == 3
    assert run("performance", "alpha", "--type", "code").exit_code == 2


def test_what_is_known_can_be_forgotten_and_exported(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots/alpha/performance/reset", document(BotPerformance(bot=ALPHA, types=())))
    hive.on("GET /v1/performance/export", document({"bot": "alpha"}))

    assert "alpha at type code" in run("performance", "reset", "alpha", "--type", "code").stdout
    assert hive.body() == {"type": "code"}
    assert run("performance", "export", "--format", "csv").stdout == '{"bot":"alpha"}'
    assert hive.last.url.params["format"] == "csv"


def test_another_policy_is_told_with_its_error_bars_or_that_too_little_is_known(
    run: Run, hive: FakeHive
) -> None:
    def about(estimate: float) -> Interval:
        return Interval(estimate=estimate, low=estimate / 2, high=estimate * 2)

    actual = Outcomes(run_s_p95=about(4.0), cost_usd=about(0.02), failure_share=about(0.1))
    judged = Outcomes(run_s_p95=None, cost_usd=about(0.01), failure_share=about(0.2))
    told = WhatIf(
        policy="cheapest",
        type=None,
        since=NOON,
        decisions=900,
        used=600,
        without_chance=300,
        without_opinion=0,
        effective=140.0,
        actual=actual,
        estimate=judged,
        detail="600 decisions, worth 140",
    )
    hive.on("GET /v1/whatif", document(told))

    result = run("whatif", "--policy", "cheapest", "--since", "7d")

    assert "4 s (2 s to 8 s)              not enough data" in result.stdout
    assert "10.0% (5.0% to 20.0%)" in result.stdout
    assert "$0.0100 ($0.0050 to $0.0200)" in result.stdout
    assert "600 decisions, worth 140" in result.stdout
    assert "of 900 decisions 300 were not left to chance" in result.stderr
    assert run("whatif").exit_code == 2
