"""How tasks are handed in from the command line."""

from pathlib import Path

import httpx
import msgspec
import pytest

from cli.batch import portions
from shared.contracts.orchestrator.facts import FileRef, Output
from shared.contracts.words import BATCH_BYTES_MAX, BATCH_LINES_MAX
from tests.cli.conftest import Run
from tests.cli.fake_hive import FakeHive, attempt, document, problem, task


def test_a_task_is_sent_as_it_was_typed(run: Run, hive: FakeHive, tmp_path: Path) -> None:
    hive.on("POST /v1/tasks", document(task(state="queued"), 201))
    (tmp_path / "in.txt").write_text("some input")

    result = run(
        *(
            "submit",
            "--type",
            "code",
            "--engine",
            "shell",
            "--bot",
            "alpha",
            "--pool",
            "p",
            "--priority",
            "P1",
        ),
        *("--timeout", "1.5m", "--deadline", "2026-01-31T18:00:00+01:00", "--attempts", "5"),
        *("--side-effects", "ask", "--input", str(tmp_path / "in.txt"), "--key", "once", "git status"),
    )

    assert result.exit_code == 0, result.output
    assert result.stdout == "t1\n"
    assert hive.last.headers["Idempotency-Key"] == "once"
    assert hive.last.headers["Authorization"] == "Bearer hive_test"
    assert hive.body() == {
        "content": "git status",
        "type": "code",
        "engine": "shell",
        "bot": "alpha",
        "pool": "p",
        "priority": "P1",
        "timeout_s": 90.0,
        "deadline": "2026-01-31T18:00:00+01:00",
        "retry": {"attempts_max": 5, "side_effects": "ask"},
        "input": "some input",
    }


def test_a_task_may_come_after_others(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="waiting"), 201))

    result = run("submit", "--after", "t1,t2", "--after", "t3", "--after-policy", "ended", "git status")

    assert result.exit_code == 0, result.output
    assert hive.body()["after"] == ["t1", "t2", "t3"]
    assert hive.body()["after_policy"] == "ended"


def test_what_was_not_typed_is_left_to_the_hive(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="queued"), 201))

    run("submit", "git status")

    assert hive.body() == {"content": "git status", "priority": "P2"}
    assert "Idempotency-Key" not in hive.last.headers


def test_waiting_prints_the_result_alone_on_standard_output(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="queued"), 201))
    hive.on("GET /v1/tasks/t1", document(task(state="running")), document(task()))

    result = run("submit", "git status", "--wait")

    assert result.exit_code == 0
    assert result.stdout == "on branch main\n"
    assert "completed by alpha in 12 ms" in result.stderr


def test_a_result_too_long_for_the_tasks_document_is_printed_whole(run: Run, hive: FakeHive) -> None:
    output = Output(text="begin", file=FileRef(sha256="ab" * 32, size_bytes=9), size_bytes=9, truncated=True)
    hive.on("POST /v1/tasks", document(task(output=output), 201))
    hive.on(f"GET /v1/files/{'ab' * 32}", httpx.Response(200, content=b"begin end"))

    result = run("submit", "long", "--wait")

    assert result.stdout == "begin end\n"
    assert "its output was longer: the first 9 B were kept" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("x", "--wait", "0.05"),
        ("--wait", "0.05s", "x"),
        ("--wait=50ms", "x"),
        ("x", "--wait=0.05", "--engine", "e"),
    ],
)
def test_a_length_of_time_after_wait_is_its_value(run: Run, hive: FakeHive, words: tuple[str, ...]) -> None:
    hive.on("POST /v1/tasks", document(task(state="running"), 201))
    hive.on("GET /v1/tasks/t1", document(task(state="running")))

    assert run("submit", *words).exit_code == 6
    assert hive.body(0)["content"] == "x"


def test_a_number_after_wait_that_left_no_text_is_explained(run: Run) -> None:
    result = run("submit", "--wait", "5")

    assert result.exit_code == 2
    assert "a text that is a number comes before it" in result.stderr
    assert run("submit", "x", "--wait=soon").exit_code == 2


def test_wait_may_stand_before_the_text(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(), 201))

    result = run("submit", "--wait", "git status")

    assert (result.exit_code, result.stdout) == (0, "on branch main\n")
    assert hive.body()["content"] == "git status"


def test_a_failed_task_makes_the_exit_1(run: Run, hive: FakeHive) -> None:
    failed = task(state="failed", attempts=(attempt(1, "failed"), attempt(2, "failed")))
    hive.on("POST /v1/tasks", document(failed, 201))

    result = run("submit", "ls /nonexistent", "--wait")

    assert result.exit_code == 1
    assert "failed by alpha in 12 ms, 2 attempts: ls exited with 2 (exit_nonzero)" in result.stderr


def test_a_task_that_waits_for_a_person_ends_the_wait_as_failed(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="blocked", reason="its end is unknown"), 201))

    result = run("submit", "deploy", "--wait")

    assert result.exit_code == 1
    assert "its end is unknown" in result.stderr


def test_when_the_wait_ends_first_the_exit_is_6_and_says_what_to_type(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="running"), 201))
    hive.on("GET /v1/tasks/t1", document(task(state="running")))

    result = run("submit", "sleep", "--wait=0.05")

    assert result.exit_code == 6
    assert "hive task watch t1" in result.stderr


def test_a_task_that_is_only_stored_is_asked_for_until_it_is_decided(run: Run, hive: FakeHive) -> None:
    stored = document({"id": "t1", "state": "accepted"}, 202, Location="/v1/tasks/t1")
    hive.on("POST /v1/tasks", stored)
    hive.on("GET /v1/tasks/t1", stored, document(task(state="queued")))

    result = run("submit", "git status")

    assert (result.exit_code, result.stdout) == (0, "t1\n")
    assert hive.routes() == ["POST /v1/tasks", "GET /v1/tasks/t1", "GET /v1/tasks/t1"]


def test_a_wait_outlives_a_hive_that_is_away_for_a_moment(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="running"), 201))
    hive.on("GET /v1/tasks/t1", problem(503, "unavailable", "the broker is away"), document(task()))

    result = run("submit", "git status", "--wait=20")

    assert (result.exit_code, result.stdout) == (0, "on branch main\n")


def test_a_hive_that_stays_away_ends_the_wait(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="running"), 201))
    hive.on("GET /v1/tasks/t1", problem(503, "unavailable", "the broker is away"))

    assert run("submit", "git status", "--wait=0.2").exit_code == 5


def test_json_is_the_document_that_the_hive_gave(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(), 201))

    result = run("submit", "git status", "--wait", "--json")

    assert msgspec.json.decode(result.stdout, type=type(task())) == task()


def test_a_deadline_may_be_a_length_of_time(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", document(task(state="queued"), 201))

    assert run("submit", "x", "--deadline", "2h").exit_code == 0
    assert hive.body()["deadline"].endswith("Z")


def test_a_deadline_without_a_zone_is_refused_with_a_remedy(run: Run) -> None:
    result = run("submit", "x", "--deadline", "2026-01-31T18:00:00")

    assert result.exit_code == 2
    assert "2026-01-31T18:00:00Z" in result.stderr


def test_nothing_to_do_is_a_usage_error(run: Run, hive: FakeHive) -> None:
    assert run("submit").exit_code == 2
    assert run("submit", "a text", "--file", __file__).exit_code == 2
    assert hive.asked == []


def test_input_that_is_no_text_is_refused_here(run: Run, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"ab\xff")

    result = run("submit", "x", "--input", str(tmp_path / "raw"))

    assert result.exit_code == 2
    assert "UTF-8" in result.stderr
    assert "at byte 2" in result.stderr


LINES = b'{"content":"a"}\n\n{"content":""}\n'


def batch_answer(_request: httpx.Request) -> httpx.Response:
    refused = {"title": "Bad Request", "status": 400, "code": "invalid_body", "detail": "/content: too short"}
    items = [
        {"line": 1, "status": 201, "id": "t1", "version": 4},
        {"line": 3, "status": 400, "problem": refused},
    ]
    return document({"items": items, "accepted": 1, "refused": 1})


def test_each_line_of_a_batch_has_its_own_outcome(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/batch", batch_answer)

    result = run("submit", "-", "--key", "nightly", sent=LINES)

    assert hive.last.headers["Content-Type"] == "application/jsonl"
    assert hive.last.headers["Idempotency-Key"] == "nightly"
    assert hive.last.content == LINES
    assert result.stdout == "t1\n"
    assert "line 3: /content: too short (invalid_body)" in result.stderr
    assert result.exit_code == 2


def test_a_batch_can_be_watched(run: Run, hive: FakeHive, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(b'{"content":"a"}\n{"content":"b"}')
    items = [{"line": 1, "status": 201, "id": "t1"}, {"line": 2, "status": 202, "id": "t2"}]
    hive.on("POST /v1/tasks/batch", document({"items": items}))
    hive.on("GET /v1/tasks/t1", document(task("t1", "running")), document(task("t1")))
    hive.on("GET /v1/tasks/t2", document(task("t2", "failed")))

    result = run("submit", "--file", str(tmp_path / "tasks.jsonl"), "--watch")

    assert hive.asked[0].content == b'{"content":"a"}\n{"content":"b"}\n'
    assert "t1  completed by alpha in 12 ms  on branch main" in result.stdout
    assert "t2  failed by alpha" in result.stdout
    assert result.exit_code == 1


def test_a_batch_as_json_is_a_line_for_each_outcome(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/batch", batch_answer)

    result = run("submit", "-", "--json", sent=LINES)

    first, third = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert first == {"line": 1, "status": 201, "id": "t1"}
    assert (third["line"], third["error"]["code"]) == (3, "invalid_body")


def test_a_file_larger_than_a_request_goes_in_portions_with_its_own_line_numbers() -> None:
    numbers = [(first, len(lines)) for first, lines in portions([b"{}\n"] * (BATCH_LINES_MAX + 2))]
    assert numbers == [(1, BATCH_LINES_MAX), (BATCH_LINES_MAX + 1, 2)]

    half = b"x" * (BATCH_BYTES_MAX // 2)
    assert [first for first, _ in portions([half, half, half])] == [1, 2, 3]


def test_a_portion_after_the_first_has_a_key_of_its_own(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/batch", document({"items": []}))

    run("submit", "-", "--key", "k", sent=b"{}\n" * (BATCH_LINES_MAX + 1))

    assert [request.headers["Idempotency-Key"] for request in hive.asked] == ["k", f"k.{BATCH_LINES_MAX + 1}"]


def test_a_key_used_for_something_else_is_refused_with_a_remedy(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", problem(422, "idempotency_key_reused", "the key was used for another task"))

    result = run("submit", "x", "--key", "k")

    assert result.exit_code == 4
    assert "next: use another --key" in result.stderr
