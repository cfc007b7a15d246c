"""To forget what is known of a bot is a decision."""

from services.scheduler.decider import PERFORMANCE
from shared.contracts.scheduler.commands import ResetPerformance
from shared.contracts.scheduler.facts import PerformanceReset
from shared.contracts.words import BotId, TaskType
from tests.support.scenario import NOON, Given

ALPHA = BotId("alpha")
RESET = PerformanceReset(bot_id=ALPHA)


def test_each_reset_is_a_new_place_in_the_log() -> None:
    Given(PERFORMANCE, ()).when(ResetPerformance(bot_id=ALPHA)).then(RESET)
    Given(PERFORMANCE, [([RESET], NOON)]).when(ResetPerformance(bot_id=ALPHA)).then(RESET)


def test_one_type_can_be_forgotten_alone() -> None:
    wish = ResetPerformance(bot_id=ALPHA, type=TaskType.CODE)
    Given(PERFORMANCE, ()).when(wish).then(PerformanceReset(bot_id=ALPHA, type=TaskType.CODE))


def test_what_can_be_no_bot_is_refused() -> None:
    Given(PERFORMANCE, ()).when(ResetPerformance(bot_id=BotId("a.b"))).then_rejected("bad_bot")
    assert ResetPerformance.senders == {"gateway"}
