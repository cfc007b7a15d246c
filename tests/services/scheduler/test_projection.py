"""Facts become opinions: what counts for a bot and against it, what is forgotten, and who is known."""

import pytest

from services.scheduler.opinions import policy_of, standing_of
from services.scheduler.projection import Books
from shared.contracts.config import Config
from shared.contracts.orchestrator.facts import (
    AssignmentWithdrawn,
    BotRetired,
    BotStopped,
    CircuitOpened,
    TaskCancelled,
)
from shared.contracts.scheduler.routing import Standing
from shared.contracts.words import BotId, TaskType
from tests.services.scheduler.history import CODE, History
from tests.support.scenario import NOON

ALPHA, BETA = BotId("alpha"), BotId("beta")


def standing(books: Books, bot: BotId = ALPHA, config: Config | None = None) -> Standing:
    book = books.book(CODE)
    return standing_of(book.ledgers[bot], book.runs, book.costs, policy_of(config or Config()))


def test_each_end_counts_once_under_its_type() -> None:
    history = History()
    for _ in range(3):
        history.done("alpha")
    history.failed("alpha")
    history.done("alpha", TaskType.WRITING)
    books = history.books()
    assert books.book(CODE).ledgers[ALPHA].samples == 4
    assert books.book(CODE).ledgers[ALPHA].success == pytest.approx(0.75)
    assert books.book(TaskType.WRITING).ledgers[ALPHA].samples == 1
    assert books.tasks == {}


def test_what_a_bot_is_not_to_blame_for_does_not_count() -> None:
    history = History()
    history.fails("alpha", history.given("alpha"), retryable=False)
    for reason in ("bot_restarted", "bot_stopped", "bot_retired", "shut_down"):
        history.loses("alpha", history.given("alpha"), reason)
    task_id, token = history.given("alpha")
    history.commit(
        "task",
        task_id,
        AssignmentWithdrawn(task_id=task_id, bot_id=ALPHA, token=token, reason="not_taken"),  # not heard
        TaskCancelled(task_id=task_id, reason="asked", bot_id=ALPHA),
    )
    assert history.books().book(CODE).ledgers == {}


@pytest.mark.parametrize("reason", ["bot_died", "bot_silent", "cut_off", "timed_out", "no_longer_held"])
def test_an_attempt_that_was_lost_counts_against_its_bot(reason: str) -> None:
    history = History()
    history.loses("alpha", history.given("alpha"), reason)
    assert history.books().book(CODE).ledgers[ALPHA].failures == 1


def test_speed_and_success_make_the_score() -> None:
    history = History()
    for _ in range(20):
        history.done("alpha", run_s=2_000.0)
        history.done("beta", run_s=5_000.0)
    books = history.books()
    fast, slow = standing(books), standing(books, BETA)
    assert (fast.success, slow.success) == (1, 1)
    assert (fast.speed, slow.speed) == (0.75, 0.25)  # long as they are, they do not tie
    assert fast.score == pytest.approx(0.4 * 0.75 + 0.6)
    assert slow.score == pytest.approx(0.4 * 0.25 + 0.6)


def test_a_policy_may_prefer_the_fast_or_the_cheap() -> None:
    history = History()
    for number in range(20):
        history.done("alpha", run_s=1.0, cost_usd=0.9)
        if number % 5:
            history.done("beta", run_s=3.0, cost_usd=0.1)
        else:
            history.failed("beta")
    books = history.books()
    for policy, best in (("efficient", ALPHA), ("fast", ALPHA), ("cheap", BETA)):
        config = Config(scheduler_policy=policy, cheap_cost_weight=0.8)  # type: ignore[arg-type]
        scores = {bot: standing(books, bot, config).score for bot in (ALPHA, BETA)}
        assert max(scores, key=scores.__getitem__) == best, policy


def test_less_than_three_ends_are_not_trusted() -> None:
    history = History()
    history.done("alpha")
    history.done("alpha")
    assert (standing(history.books()).trusted, standing(history.books()).score) == (False, 0.5)
    history.done("alpha")
    assert standing(history.books()).trusted
    assert not standing(history.books(), config=Config(samples_min=4)).trusted


def test_a_reset_forgets_what_was_before_it_in_the_log_and_nothing_else() -> None:
    history = History()
    history.done("alpha")
    history.done("alpha", TaskType.WRITING)
    history.done("beta")
    under_way = history.given("alpha")
    history.reset("alpha", CODE)
    books = history.books()
    assert list(books.book(CODE).ledgers) == [BETA]
    assert list(books.book(TaskType.WRITING).ledgers) == [ALPHA]
    history.completes("alpha", under_way)
    assert history.books().book(CODE).ledgers[ALPHA].samples == 1
    history.reset("alpha")
    books = history.books()
    assert (list(books.book(CODE).ledgers), list(books.book(TaskType.WRITING).ledgers)) == ([BETA], [])


def test_it_is_known_who_can_be_given_something_and_why_others_cannot() -> None:
    history = History()
    history.bots("alpha", types=(CODE,))
    history.bots("beta", "gamma", "delta")
    history.commit("bot", "beta", BotStopped(bot_id=BETA, generation=1))
    history.commit("bot", "gamma", BotRetired(bot_id=BotId("gamma"), generation=1))
    opened = CircuitOpened(bot_id=BotId("delta"), reason="5 failures in a row", until=NOON)
    history.commit("bot", "delta", opened)
    fleet = history.books().fleet
    assert sorted(fleet) == ["alpha", "beta", "delta"]
    assert fleet[ALPHA].why_not(CODE) is None
    assert fleet[ALPHA].why_not(TaskType.WRITING) == "does code only"
    assert fleet[BETA].why_not(CODE) == "is stopped"
    assert fleet[BotId("delta")].why_not(CODE) == "has an open circuit: 5 failures in a row"


def test_the_bot_heard_of_longest_ago_is_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.scheduler.projection.BOTS_MAX", 2)
    history = History()
    for bot in ("alpha", "beta", "alpha", "gamma"):
        history.done(bot)
    assert sorted(history.books().book(CODE).ledgers) == ["alpha", "gamma"]
