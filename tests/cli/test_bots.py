"""How bots are launched, listed and stopped."""

from pathlib import Path

import msgspec
import pytest

from cli.fleet import Differs, Keep, Launch, Start, names, read, steps
from shared.contracts.orchestrator.facts import BotSpec, TaskError
from shared.contracts.orchestrator.queries import HistoryEntry
from shared.contracts.words import TaskId, TaskType
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, attempt, bot, document, page, problem


def test_bots_is_short_for_bots_list(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots", page(bot("alpha"), bot("beta", "busy", running=("t1",), free_slots=2)))

    short, long = run("bots"), run("bots", "list")

    assert short.stdout == long.stdout
    assert [line.split()[:3] for line in short.stdout.splitlines()[1:]] == [
        ["alpha", "idle", "shell"],
        ["beta", "busy", "shell"],
    ]
    assert run("bots", "--pool", "p").exit_code == 0
    assert hive.last.url.params["pool"] == "p"


def test_a_bot_is_launched_as_it_was_typed(run: Run, hive: FakeHive, tmp_path: Path) -> None:
    hive.on("POST /v1/bots", document(bot(), 201))

    result = run(
        *(
            "bots",
            "launch",
            "alpha",
            "--engine",
            "shell",
            "--workspace",
            str(tmp_path),
            "--types",
            "code,testing",
        ),
        *("--slots", "2", "--pool", "p", "--env", "A", "--env", "B", "--allow", "make", "--host", "h"),
        *("--memory", "512"),
    )

    assert result.exit_code == 0, result.output
    assert "alpha  idle  pid 4711" in result.stdout
    typed = {
        "name": "alpha",
        "engine": "shell",
        "workspace": str(tmp_path),
        "types": ["code", "testing"],
        "slots": 2,
        "pool": "p",
        "env": ["A", "B"],
        "allow": ["make"],
        "host": "h",
        "memory_mb": 512,
    }
    assert {name: hive.body()[name] for name in typed} == typed
    assert float(hive.last.url.params["wait"]) > 0


def test_the_words_of_a_command_keep_their_order(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots", document(bot(), 201))

    run("bots", "launch", "c", "--engine", "command", "--argv", "agent", "--argv=-p", "--argv", "{input}")

    assert hive.body()["argv"] == ["agent", "-p", "{input}"]


def test_an_unknown_type_is_a_usage_error_that_names_the_known(run: Run) -> None:
    result = run("bots", "launch", "a", "--engine", "echo", "--types", "cooking")

    assert result.exit_code == 2
    assert "documentation" in result.stderr


def test_of_many_bots_each_has_its_own_outcome(run: Run, hive: FakeHive) -> None:
    refused = {"title": "Conflict", "status": 409, "code": "bot_exists", "detail": "b-2 is another bot"}
    items = [
        {"name": "b-1", "status": 201, "bot": bot("b-1")},
        {"name": "b-2", "status": 409, "problem": refused},
    ]
    hive.on("POST /v1/bots", document({"items": items}))

    result = run("bots", "launch", "b", "--engine", "echo", "--count", "2")

    assert hive.body()["count"] == 2
    assert "b-1  idle" in result.stdout
    assert "b-2  b-2 is another bot" in result.stderr
    assert result.exit_code == 4


def test_a_bot_that_cannot_run_is_refused_with_the_reason(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots", problem(409, "launch_failed", "alpha cannot run: workspace: no such folder"))

    result = run("bots", "launch", "alpha", "--engine", "echo")

    assert result.exit_code == 4
    assert "no such folder" in result.stderr
    assert "may be launched anew" in result.stderr


def test_a_bot_that_is_not_up_in_time_is_exit_6(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots", document(bot(state="starting", pid=None), 202))

    assert run("bots", "launch", "alpha", "--engine", "echo").exit_code == 6


@pytest.mark.parametrize(
    ("verb", "route"),
    [
        ("stop", "POST /v1/bots/alpha/stop"),
        ("start", "POST /v1/bots/alpha/start"),
        ("restart", "POST /v1/bots/alpha/restart"),
        ("retire", "DELETE /v1/bots/alpha"),
    ],
)
def test_each_change_is_a_request_and_tells_the_new_state(
    run: Run, hive: FakeHive, verb: str, route: str
) -> None:
    hive.on(route, document(bot(state="stopped", pid=None)))

    result = run("bots", verb, "alpha")

    assert result.stdout == "alpha  stopped\n"
    assert hive.routes() == [route]


def test_a_circuit_is_opened_and_closed(run: Run, hive: FakeHive) -> None:
    until = "2026-11-21T09:35:00Z"
    opened = {"state": "open", "reason": "repair", "until": until}
    hive.on("POST /v1/bots/alpha/circuit", document(bot(circuit=opened)))

    result = run("bots", "circuit", "alpha", "open", "--for", "60", "--reason", "repair")

    assert result.stdout.startswith("alpha  circuit open until ")
    assert result.stdout.endswith(": repair\n")
    assert hive.body() == {"state": "open", "reason": "repair", "for_s": 60.0}
    hive.on("POST /v1/bots/alpha/circuit", document(bot()))
    assert run("bots", "circuit", "alpha", "close").stdout == "alpha  circuit closed\n"
    assert run("bots", "circuit", "alpha", "close", "--for", "60").exit_code == 2


def test_a_change_that_is_only_stored_says_so(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots/alpha/stop", document({"id": "alpha", "state": "accepted", "detail": "…"}, 202))

    assert "stored" in run("bots", "stop", "alpha").stdout


def test_a_bot_is_shown_field_by_field(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots/alpha", document(bot(running=("t1", "t2"))))

    result = run("bots", "show", "alpha")

    assert "memory      27.4 MB" in result.stdout
    assert "running     t1, t2" in result.stdout


def test_history_is_newest_first_with_what_was_said(run: Run, hive: FakeHive) -> None:
    entry = HistoryEntry(
        task_id=TaskId("t1"),
        type=TaskType.CODE,
        content="pwd",
        attempt=attempt(1, "completed", started_at=NOON, ended_at=NOON),
        output_text="/work",
    )
    hive.on("GET /v1/bots/alpha/history", page(entry))

    assert "/work" in run("bots", "history", "alpha").stdout


def test_history_has_a_line_for_each_attempt_however_much_it_printed(run: Run, hive: FakeHive) -> None:
    printed = "".join(f"line {number}\n" for number in range(100))
    long = HistoryEntry(
        task_id=TaskId("t1"),
        type=TaskType.CODE,
        content="seq\nand more",
        attempt=attempt(1, "completed", started_at=NOON, ended_at=NOON),
        output_text=printed,
    )
    failed = HistoryEntry(
        task_id=TaskId("t2"),
        type=TaskType.CODE,
        content="x" * 1_000,
        attempt=attempt(1, "failed", error=TaskError(code="exit_nonzero", detail="ls exited with 2")),
    )
    hive.on("GET /v1/bots/alpha/history", page(long, failed))

    heading, first, second = run("bots", "history", "alpha").stdout.splitlines()
    full = run("bots", "history", "alpha", "--full").stdout
    as_json = run("bots", "history", "alpha", "--json").stdout

    assert heading.startswith("AT")
    assert first.endswith("seq …" + " " * (60 - 5) + "  line 0 …")
    assert len(second) < 200
    assert second.endswith("ls exited with 2")
    assert f"> seq\nand more\n{printed}" in full
    assert "ls exited with 2" in full
    assert msgspec.json.decode(as_json)["items"][0]["output_text"] == printed


def test_a_launch_that_took_the_place_of_one_that_never_came_up_says_so(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/bots", document(bot(generation=2), 201), document(bot(generation=2), 200))

    assert "never came up" in run("bots", "launch", "alpha", "--engine", "shell").stdout
    assert "never came up" not in run("bots", "launch", "alpha", "--engine", "shell").stdout


FLEET = """
[[bots]]
name = "alpha"
engine = "shell"
workspace = "."
types = ["code"]

[[bots]]
name = "echo"
engine = "echo"
count = 2
"""


def test_a_fleet_file_names_bots_and_how_many(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)

    fleet = read(tmp_path / "fleet.toml")

    assert fleet == {
        "alpha": BotSpec(engine="shell", workspace=str(tmp_path), types=(TaskType.CODE,)),
        "echo-1": BotSpec(engine="echo"),
        "echo-2": BotSpec(engine="echo"),
    }
    assert names("a", 1) == ["a"]


def test_a_fleet_is_compared_with_what_is_there() -> None:
    shell, echo = BotSpec(engine="shell"), BotSpec(engine="echo")
    wanted = {"new": shell, "same": shell, "stopped": shell, "other": echo, "retired": shell}
    there = [
        bot("same"),
        bot("stopped", "stopped"),
        bot("other"),
        bot("retired", "retired"),
        bot("not-named"),
    ]

    assert steps(wanted, there) == [
        Launch("new", shell),
        Keep("same"),
        Start("stopped"),
        Differs("other", echo, ("engine",)),
        Launch("retired", shell),
    ]


@pytest.mark.parametrize("state", ["broken", "restarting"])
def test_a_bot_that_never_came_up_is_launched_anew_as_the_file_says_now(state: str) -> None:
    shell, echo = BotSpec(engine="shell"), BotSpec(engine="echo")

    assert steps({"alpha": echo}, [bot("alpha", state)]) == [Launch("alpha", echo)]
    assert steps({"alpha": shell}, [bot("alpha", "broken")]) == [Start("alpha")]
    assert steps({"alpha": echo}, [bot("alpha", state, came_up=True)]) == [
        Differs("alpha", echo, ("engine",))
    ]


def test_applying_launches_what_is_missing(run: Run, hive: FakeHive, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    hive.on("GET /v1/bots", page(bot("echo-1", spec=BotSpec(engine="echo"))))
    hive.on("POST /v1/bots", document(bot(), 201))

    result = run("bots", "apply", str(tmp_path / "fleet.toml"))

    assert result.stdout.splitlines() == ["alpha  launched", "echo-1  unchanged", "echo-2  launched"]


def test_bots_with_another_spec_are_left_alone_unless_asked(run: Run, hive: FakeHive, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[[bots]]\nname = "alpha"\nengine = "echo"\n')
    hive.on("GET /v1/bots", page(bot("alpha")))
    hive.on("DELETE /v1/bots/alpha", document(bot(state="retired")))
    hive.on("POST /v1/bots", document(bot(), 201))

    refused = run("bots", "apply", str(tmp_path / "fleet.toml"))
    replaced = run("bots", "apply", str(tmp_path / "fleet.toml"), "--replace")

    assert refused.exit_code == 4
    assert "alpha: engine" in refused.stderr
    assert replaced.stdout == "alpha  replaced\n"
    assert hive.routes()[-2:] == ["DELETE /v1/bots/alpha", "POST /v1/bots"]


@pytest.mark.parametrize(
    "text",
    [
        "[[bots",
        '[[bots]]\nengine = "echo"',
        '[[bots]]\nname = "a b"\nengine = "echo"',
        '[[bots]]\nname="a"\nx=1',
    ],
)
def test_a_fleet_file_that_is_wrong_is_a_usage_error(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)

    result = run("bots", "apply", str(tmp_path / "fleet.toml"))

    assert result.exit_code == 2
    assert "[[bots]] with name" in result.stderr


def test_json_lists_what_the_hive_gave(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots", page(bot()))

    told = run("bots", "--json").stdout

    assert msgspec.json.decode(told) == {
        "items": [msgspec.json.decode(msgspec.json.encode(bot()))],
        "next_cursor": None,
    }
