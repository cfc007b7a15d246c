"""What a person sees: a terminal of 80 columns, colours only where they are wanted, nothing odd in a pipe."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.fake_hive import FakeHive, bot, document, page, task
from tests.cli.terminal import COLUMNS, ESCAPES, ROOT, Terminal, environment, lines, served

UUID = "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
COLOUR = "\x1b[3"
Typed = Callable[..., Terminal]


@pytest.fixture
def url(hive: FakeHive) -> Iterator[str]:
    with served(hive) as url:
        yield url


@pytest.fixture
def typed(url: str, tmp_path: Path) -> Typed:
    def typed(*words: str, **env: str) -> Terminal:
        return Terminal(words, environment(url, tmp_path, env))

    return typed


@pytest.fixture
def fleet(hive: FakeHive) -> None:
    long = bot("the-one-that-reviews-everything", "broken", reason="it cannot run: " + "no such folder " * 9)
    hive.on("GET /v1/bots", page(bot("alpha"), long))


@pytest.mark.usefixtures("fleet")
def test_a_table_fits_the_terminal_and_keeps_what_is_typed_next(typed: Typed) -> None:
    terminal = typed("bots")

    assert terminal.ended() == 0
    heading, alpha, long = lines(terminal.shown)
    assert max(len(line) for line in (heading, alpha, long)) <= COLUMNS
    assert long.startswith("the-one-that-reviews-everything  broken")
    assert long.endswith("…")
    assert heading.startswith("name ")
    assert "state" in heading
    assert f"{COLOUR}2midle" in terminal.shown


def test_an_id_is_never_cut(hive: FakeHive, typed: Typed) -> None:
    hive.on("GET /v1/tasks", page(task(UUID, "failed", content="make " + "x" * 200)))

    terminal = typed("tasks")

    assert terminal.ended() == 0
    assert lines(terminal.shown)[1].split()[:2] == [UUID, "failed"]
    assert len(lines(terminal.shown)[1]) <= COLUMNS


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours_nothing_steers_the_terminal(typed: Typed, plain: dict[str, str]) -> None:
    listed, refused = typed("bots", **plain), typed("bots", "show", "nobody", **plain)

    assert (listed.ended(), refused.ended()) == (0, 3)
    assert "\x1b" not in listed.shown + refused.shown
    assert "error: there is no" in refused.shown


@pytest.mark.usefixtures("fleet")
def test_an_option_takes_the_colours_away_too(typed: Typed) -> None:
    terminal = typed("--no-color", "bots")

    assert terminal.ended() == 0
    assert "\x1b" not in terminal.shown


@pytest.mark.parametrize("plain", [{}, {"NO_COLOR": "1"}])
def test_a_wait_shows_that_it_goes_on_and_leaves_only_the_result(
    hive: FakeHive, typed: Typed, plain: dict[str, str]
) -> None:
    explained = threading.Event()

    def ended_once_explained(_: httpx.Request) -> httpx.Response:
        explained.wait(20)
        return document(task())

    hive.on("POST /v1/tasks", document(task(state="queued"), 201))
    queued = document(task(state="queued"))
    hive.on("GET /v1/tasks/t1", queued, queued, ended_once_explained)
    why = {"id": "t1", "state": "queued", "explanation": "no bot is there", "waits_for": "a_bot"}
    hive.on("GET /v1/tasks/t1/why", document(why))

    terminal = typed("submit", "git status", "--wait", **plain)
    terminal.until("no bot is there\r\n")
    terminal.until("waiting for t1  0:0")
    explained.set()

    assert terminal.ended() == 0
    assert lines(terminal.shown) == ["no bot is there", "on branch main", "t1 completed by alpha in 12 ms"]
    assert (COLOUR in terminal.shown) == (not plain)
    assert "\x1b[?25l" not in terminal.shown  # the cursor is never taken away, so a kill leaves it


def test_a_bar_counts_what_is_done(hive: FakeHive, typed: Typed) -> None:
    go = threading.Event()

    def slow(_: httpx.Request) -> httpx.Response:
        go.wait(20)
        return document(bot(state="stopped", pid=None))

    for name, answer in (("a", document(bot("a", "stopped", pid=None))), ("b", slow)):
        hive.on(f"POST /v1/bots/{name}/stop", answer)

    terminal = typed("bots", "stop", "a", "b")
    terminal.until("asking  [############............] 1/2  0:0")
    go.set()

    assert terminal.ended() == 0
    assert lines(terminal.shown) == ["a  stopped", "alpha  stopped"]


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("words", [("bots",), ("bots", "show", "nobody"), ("bots", "stop", "a", "b")])
def test_into_a_pipe_goes_plain_text(
    url: str, tmp_path: Path, words: tuple[str, ...], hive: FakeHive
) -> None:
    for name in "ab":
        hive.on(f"POST /v1/bots/{name}/stop", document(bot(name, "stopped", pid=None)))

    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env=environment(url, tmp_path, {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert not ESCAPES.search(done.stdout + done.stderr)
    assert "\r" not in done.stdout + done.stderr
    if words == ("bots",):
        assert "no such folder no such folder no such folder no such folder no such folder" in done.stdout


def test_ctrl_c_ends_a_wait_and_leaves_a_clean_line(hive: FakeHive, typed: Typed) -> None:
    never = threading.Event()

    def silent(_: httpx.Request) -> httpx.Response:
        never.wait(20)
        return document(task(state="running"))

    hive.on("POST /v1/tasks", document(task(state="running"), 201))
    hive.on("GET /v1/tasks/t1", document(task(state="running")), silent)

    terminal = typed("submit", "sleep", "--wait")
    terminal.until("waiting for t1")
    terminal.type("\x03")

    try:
        assert terminal.ended() == 1
    finally:
        never.set()
    assert lines(terminal.shown)[-1] == "Aborted!"
