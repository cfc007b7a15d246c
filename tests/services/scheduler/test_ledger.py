"""What a bot's past is worth: recent ends weigh more, trends are told beyond chance, doubt as doubt."""

from random import Random

import pytest

from services.scheduler.ledger import TREND_SAMPLES_MIN, Ended, Ledger
from services.scheduler.sketch import Sketch
from tests.support.scenario import NOON

ALPHA = 0.1


GOOD, BAD = True, False


def ledger(*ends: bool, speed: float = 0.5, run_s: float = 1.0) -> Ledger:
    known = Ledger(last_at=NOON)
    for number, success in enumerate(ends, 1):
        run = run_s if success else None
        known.count(Ended(success, NOON, run, speed, tokens=10, cost_usd=0.5), number, ALPHA)
    return known


def test_the_first_ends_weigh_alike_and_later_ones_by_alpha() -> None:
    assert ledger(GOOD, BAD).success == 0.5
    assert ledger(*[GOOD] * 9, BAD).success == pytest.approx(0.9)
    assert ledger(*[GOOD] * 50, BAD).success == pytest.approx(0.9)
    assert ledger(*[BAD] * 50, GOOD).success == pytest.approx(0.1)


def test_tokens_and_cost_are_averages_of_all_ends_and_run_times_of_good_ones() -> None:
    known = ledger(GOOD, BAD, GOOD, run_s=4.0)
    assert (known.tokens, known.cost_usd, known.run_s, known.runs) == (10, 0.5, 4.0, 2)


def test_one_endless_run_does_not_spoil_what_is_typical() -> None:
    known = Ledger(last_at=NOON)
    for run_s in [1.0] * 20 + [3600.0]:
        known.count(Ended(success=True, at=NOON, run_s=run_s), 1, ALPHA)
    assert known.typical_run_s < 3 < known.run_s


def test_counts_are_discounted_so_that_about_fifty_ends_decide() -> None:
    known = ledger(*[GOOD] * 1_000)
    assert known.samples == 1_000
    assert 49 < known.successes <= 50


def test_confidence_grows_with_what_is_known_and_is_least_where_it_could_be_either() -> None:
    assert ledger().confidence == 0
    growing = [ledger(*[GOOD] * count).confidence for count in (1, 3, 10, 50)]
    assert growing == sorted(growing)
    assert ledger(*[GOOD, BAD] * 25).confidence < ledger(*[GOOD] * 50).confidence < 1


def test_a_bot_that_gets_worse_is_declining_and_one_that_gets_better_improving() -> None:
    assert ledger(*[GOOD] * 40, *[BAD] * 8).trend(ALPHA) == "declining"
    assert ledger(*[BAD] * 40, *[GOOD] * 8).trend(ALPHA) == "improving"
    slower = ledger(*[GOOD] * 40, speed=0.9)
    for number in range(8):
        slower.count(Ended(success=True, at=NOON, run_s=9.0, speed=0.05), number, ALPHA)
    assert slower.trend(ALPHA) == "declining"


def test_a_steady_bot_is_seldom_said_to_change() -> None:
    chance = Random(7)
    for share in (0.5, 0.8, 0.95):
        known, said = Ledger(last_at=NOON), 0
        for number in range(2_000):
            known.count(Ended(chance.random() < share, NOON, 1.0), number, ALPHA)
            said += known.trend(ALPHA) != "steady"
        assert said < 200


def test_few_ends_are_no_trend() -> None:
    assert ledger(*[GOOD] * (TREND_SAMPLES_MIN - 3), BAD, BAD).trend(ALPHA) == "steady"


def test_speed_is_a_place_among_the_types_own_run_times_however_long_they_are() -> None:
    runs = Sketch([1_200.0, 2_400.0, 4_800.0, 9_600.0])
    assert [runs.share_above(each) for each in (1_000.0, 2_400.0, 5_000.0, 10_000.0)] == [1, 0.625, 0.25, 0]


def test_a_sketch_is_bounded_forgets_the_oldest_and_knows_nothing_when_it_is_empty() -> None:
    assert Sketch().share_above(1.0) == 0.5
    runs = Sketch(kept_max=4)
    for value in (9.0, 9.0, 1.0, 2.0, 3.0, 4.0):
        runs.add(value)
    assert runs.values() == [1.0, 2.0, 3.0, 4.0]
    assert (len(runs), runs.quantile(0.0), runs.quantile(0.5), runs.quantile(1.0)) == (4, 1.0, 3.0, 4.0)
