"""What is known, on a real SQLite file: exactly what memory knows, whenever it was cut off."""

import sqlite3
import weakref
from pathlib import Path
from random import Random
from typing import Any

import pytest

from services.scheduler import tables
from services.scheduler.projection import Books
from services.scheduler.tables import KNOWN, SCHEMA, Rows, restore, select_trials, trials_of
from shared.contracts.config import Config
from shared.contracts.orchestrator.facts import BotRetired
from shared.contracts.words import BotId, TaskType
from shared.kernel.codec import encode
from shared.kernel.messages import Recorded
from tests.services.scheduler.history import CODE, History
from tests.support.scenario import NOON


class File:
    """A view's file, written as the runtime does: a batch is one transaction."""

    def __init__(self, path: Path) -> None:
        self.file = sqlite3.connect(path)
        weakref.finalize(self, self.file.close)
        for statement in SCHEMA:
            self.file.execute(statement)
        self.rows = Rows(Config)

    def write(self, *batch: Recorded[Any]) -> None:
        with self.file:
            for sql, rows in self.rows(batch, self.read):
                self.file.executemany(sql, rows)

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.file.execute(sql, values).fetchall()

    def books(self) -> Books:
        books = Books(Config)
        restore(books, self.read(KNOWN))
        return books


def said(books: Books) -> bytes:
    """All that is known, in its order."""
    return encode(
        {
            "books": {
                kind: [book.sequence, book.runs.values(), book.costs.values(), list(book.ledgers.items())]
                for kind, book in sorted(books.books.items())
                if book.sequence
            },
            "tasks": dict(sorted(books.tasks.items())),
            "fleet": dict(sorted(books.fleet.items())),
        }
    )


def busy(seed: int, length: int = 300) -> History:
    """Tasks of two types on four bots that end in all ways, while bots come and go and are forgotten."""
    chance, history, open_tasks = Random(seed), History(), []
    names = ("alpha", "beta", "gamma", "delta")
    history.bots(*names)
    while len(history.commits) < length:
        bot, kind = chance.choice(names), chance.choice((CODE, TaskType.WRITING))
        what = chance.random()
        if what < 0.5 or not open_tasks:
            propensity = chance.choice((None, 0.25))
            open_tasks.append((bot, history.given(bot, kind, candidates=names, propensity=propensity)))
            continue
        holder, task = open_tasks.pop(chance.randrange(len(open_tasks)))
        if what < 0.75:
            history.completes(holder, task, run_s=chance.lognormvariate(1, 1), cost_usd=chance.random())
        elif what < 0.85:
            history.fails(holder, task, retryable=chance.random() < 0.8)
        elif what < 0.95:
            history.loses(holder, task, chance.choice(("bot_died", "bot_stopped", "timed_out")))
        elif what < 0.97:
            history.reset(bot, chance.choice((None, kind)))
        else:
            history.commit("bot", bot, BotRetired(bot_id=BotId(bot), generation=1))
            history.bots(bot)
    return history


@pytest.mark.parametrize("seed", range(8))
def test_the_file_knows_what_memory_knows_wherever_it_is_cut_off(tmp_path: Path, seed: int) -> None:
    chance, history = Random(seed), busy(seed)
    file, done = File(tmp_path / "view.sqlite"), 0
    while done < len(history.commits):
        batch = history.commits[done : done + chance.randint(1, 60)]
        file.write(*batch)
        done += len(batch)
        if chance.random() < 0.3:
            file.rows = Rows(Config)  # another process
        elif chance.random() < 0.3:
            file.rows(history.commits[done : done + 5], file.read)
            file.rows.forget()  # it was not stored
    assert said(file.books()) == said(history.books())


def test_an_attempt_that_was_decided_by_chance_can_be_asked_about(tmp_path: Path) -> None:
    history = History()
    for _ in range(3):
        history.done("alpha", run_s=1.0)
        history.done("beta", run_s=2.0)
    task = history.given("beta", candidates=("alpha", "beta"), propensity=0.25)
    history.completes("beta", task, run_s=7.0, cost_usd=0.5)
    file = File(tmp_path / "view.sqlite")
    file.write(*history.commits)

    newest, *_ = trials_of(file.read(*select_trials(NOON, CODE)))
    assert (newest.record.bot, newest.record.propensity, newest.record.candidates) == ("beta", 0.25, 2)
    chances = {"cheapest": 0.5, "fastest": 0.0, "efficient": 0.0, "random": 0.5}
    assert newest.record.chances == chances  # as dear as alpha then, but slower
    assert (newest.result.failed, newest.result.cost_usd, newest.result.run_s) == (False, 0.5, 7.0)
    assert trials_of(file.read(*select_trials(NOON, TaskType.WRITING))) == []
    assert trials_of(file.read(*select_trials(history.at, None))) == []


def test_what_was_decided_without_an_opinion_says_so(tmp_path: Path) -> None:
    history = History()
    history.completes("alpha", history.given("alpha", candidates=("alpha", "beta"), propensity=0.5))
    file = File(tmp_path / "view.sqlite")
    file.write(*history.commits)
    (trial,) = trials_of(file.read(*select_trials(NOON, None)))
    assert trial.record.chances == {"cheapest": None, "fastest": None, "efficient": None, "random": 0.5}


def test_only_the_newest_attempts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TRIALS_MAX", 10)
    monkeypatch.setattr(tables, "PRUNE_AFTER", 5)
    history = History()
    for _ in range(30):
        history.done("alpha")
    file = File(tmp_path / "view.sqlite")
    for commit in history.commits:
        file.write(commit)
    kept = [row[0] for row in file.read("SELECT token FROM trials ORDER BY token")]
    assert 10 <= len(kept) < 15
    assert kept[-1] == len(history.commits) - 1
