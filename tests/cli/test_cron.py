"""How schedules are added, looked at and turned from the command line."""

from datetime import timedelta
from typing import Any

from shared.contracts.scheduler.schedules import (
    CatchUp,
    Overlap,
    Receipt,
    ScheduleDoc,
    ScheduleName,
    TaskTemplate,
)
from shared.contracts.words import TaskId
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, document, page, problem

NAME = ScheduleName("nightly")


def schedule(**more: Any) -> ScheduleDoc:
    given: dict[str, Any] = {
        "name": NAME,
        "version": 7,
        "state": "active",
        "expression": "0 3 * * *",
        "timezone": "Europe/Zurich",
        "task": TaskTemplate(content="run the tests"),
        "jitter_s": 0.0,
        "catch_up": CatchUp.ONE,
        "overlap": Overlap.ALLOW,
        "owner": "k",
        "created_at": NOON,
        "changed_at": NOON,
        "next": (NOON + timedelta(hours=15),),
        "fired": 3,
        "late": 1,
        "skipped": 0,
    }
    return ScheduleDoc(**(given | more))


def test_a_schedule_is_added_as_it_was_typed(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/schedules", document(schedule(), 201))
    result = run(
        *(
            "cron",
            "add",
            "nightly",
            "0 3 * * *",
            "--tz",
            "Europe/Zurich",
            "--type",
            "code",
            "--jitter",
            "30s",
        ),
        *("--catch-up", "all", "--overlap", "queue", "--attempts", "2", "--pool", "coders", "run the tests"),
    )
    assert result.exit_code == 0, result.output
    assert "2026-02-01 04:00:00 CET" in result.stdout
    assert hive.body() == {
        "name": "nightly",
        "expression": "0 3 * * *",
        "timezone": "Europe/Zurich",
        "jitter_s": 30,
        "catch_up": "all",
        "overlap": "queue",
        "enabled": True,
        "task": {
            "content": "run the tests",
            "type": "code",
            "priority": "P2",
            "pool": "coders",
            "retry": {"attempts_max": 2},
        },
    }


def test_with_replace_a_schedule_that_is_there_is_changed(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/schedules/nightly", document(schedule()))
    hive.on("PUT /v1/schedules/nightly", document(schedule()))
    words = ("cron", "add", "nightly", "@daily", "x", "--replace", "--paused")
    assert run(*words).exit_code == 0
    assert (hive.last.method, hive.body()["enabled"]) == ("PUT", False)
    hive.on("GET /v1/schedules/nightly", problem(404, "schedule_not_found", "there is no schedule nightly"))
    hive.on("POST /v1/schedules", document(schedule(), 201))
    assert run(*words).exit_code == 0
    assert hive.last.method == "POST"


def test_an_expression_that_cannot_be_read_says_where_and_what_to_do(run: Run, hive: FakeHive) -> None:
    detail = "expression: at position 3: '25' is no hour: 0 to 23"
    hive.on("POST /v1/schedules", problem(422, "bad_expression", detail))
    result = run("cron", "add", "n", "0 25 * * *", "x")
    assert result.exit_code == 4
    assert detail in result.stderr
    assert "hive cron add --help" in result.stderr
    assert run("cron", "add", "n", "@daily", "").exit_code == 2


def test_schedules_are_listed_with_their_next_time(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/schedules", page(schedule()))
    shown = run("cron", "list")
    assert "nightly" in shown.stdout
    assert "Europe/Zurich" in shown.stdout
    assert '"next_cursor"' in run("cron", "list", "--json").stdout
    hive.on("GET /v1/schedules", page())
    assert "hive cron add --help" in run("cron", "list").stderr


def test_a_schedule_is_run_paused_resumed_and_removed(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/schedules/nightly/run", document({"name": "nightly", "task_id": "t1"}, 201))
    for verb in ("pause", "resume"):
        hive.on(f"POST /v1/schedules/nightly/{verb}", document(schedule()))
    hive.on("DELETE /v1/schedules/nightly", document(schedule()))
    ran = run("cron", "run", "nightly", "--key", "k")
    assert (ran.exit_code, ran.stdout) == (0, "t1\n")
    assert hive.last.headers["Idempotency-Key"] == "k"
    for verb in ("pause", "resume", "remove"):
        assert run("cron", verb, "nightly").exit_code == 0
    missing = run("cron", "show", "weekly")
    assert missing.exit_code == 3


def test_receipts_say_what_became_of_each_due_time(run: Run, hive: FakeHive) -> None:
    fired = Receipt(
        name=NAME,
        sequence=9,
        due_at=NOON,
        decided_at=NOON,
        outcome="late",
        late_s=2.5,
        task_id=TaskId("nightly-20260131T120000Z"),
    )
    many = Receipt(
        name=NAME, sequence=8, due_at=NOON, decided_at=NOON, outcome="skipped", reason="missed", count=400
    )
    hive.on("GET /v1/schedules/nightly/receipts", page(fired, many))
    shown = run("cron", "receipts", "nightly").stdout
    assert "nightly-20260131T120000Z" in shown
    assert "2.5 s" in shown
    assert "skipped (400 ticks)" in shown
