"""Keys, login links, dead letters, status: and how an error is told."""

import msgspec
import pytest

from shared.contracts.dead import DeadLetter
from shared.contracts.gateway import KeyDoc
from shared.contracts.words import KeyId
from shared.kernel.messages import Committed, Failed, Refused
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, document, page, problem

KEY = KeyDoc(
    id=KeyId("k1"),
    name="ci",
    kind="api",
    prefix="hive_abcd",
    scopes=("tasks:read",),
    created_at=NOON,
    created_by="key:first",
    version=4,
)
LETTER = DeadLetter(
    id="d1",
    service="orchestrator",
    subject="cmd.orchestrator.7.gateway.t1",
    reason="it cannot be decoded",
    attempts=1,
    at=NOON,
    headers={"Hive-Reply": "x"},
    body='{"id":1}',
)


def test_the_secret_of_a_new_key_is_alone_on_standard_output(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/keys", document({"id": "k1", "key": "hive_secret"}, 201))

    result = run("keys", "create", "ci", "--scope", "tasks:read", "--expires", "30d", "--rate", "10")

    assert result.stdout == "hive_secret\n"
    body = hive.body()
    assert body.pop("expires_at").endswith("Z")
    assert body == {"name": "ci", "scopes": ["tasks:read"], "rate_per_minute": 10}


def test_a_key_without_a_limit_must_be_asked_for(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/keys", document({"id": "k1", "key": "hive_secret"}, 201))

    run("keys", "create", "ci")
    assert "rate_per_minute" not in hive.body()
    run("keys", "create", "ci", "--no-limit")
    assert hive.body()["rate_per_minute"] is None


def test_keys_are_listed_and_revoked(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/keys", page(KEY))
    hive.on("DELETE /v1/keys/k1", document(KEY))

    assert "k1  ci    api   hive_abcd  tasks:read" in run("keys").stdout
    assert run("keys", "--ended").exit_code == 0
    assert hive.last.url.params["ended"] == "true"
    assert run("keys", "revoke", "k1").stdout == "k1  revoked\n"


def test_login_prints_the_link(run: Run, hive: FakeHive) -> None:
    link = {"url": "http://hive.test/login?token=x", "expires_at": NOON}
    hive.on("POST /v1/login-links", document(link, 201))

    assert run("login").stdout == "http://hive.test/login?token=x\n"
    assert msgspec.json.decode(run("login", "--json").stdout)["url"] == link["url"]


def test_dead_letters_are_listed_and_who_did_not_tell_is_named(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/dlq", document({"items": [LETTER], "unavailable": ["messenger"]}))

    result = run("dlq", "--state", "dead")

    assert "it cannot be decoded" in result.stdout
    assert "messenger" in result.stderr
    assert hive.last.url.params["state"] == "dead"


def test_dead_letters_come_page_by_page(run: Run, hive: FakeHive) -> None:
    first = document({"items": [LETTER], "unavailable": ["messenger"], "next_cursor": "1.a"})
    hive.on("GET /v1/dlq", first, document({"items": [LETTER], "unavailable": [], "next_cursor": "1.b"}))

    result = run("dlq", "--limit", "2")

    assert len(result.stdout.splitlines()) == 3
    assert hive.last.url.params["cursor"] == "1.a"
    assert "messenger" in result.stderr
    assert "--cursor 1.b" in result.stderr


def test_a_dead_letter_is_shown_with_its_body(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/dlq/d1", document(LETTER))

    result = run("dlq", "show", "d1")

    assert "Hive-Reply  x" in result.stdout
    assert result.stdout.endswith('{"id":1}\n')


def test_a_replay_tells_what_was_decided_this_time(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/dlq/a/replay", document(Committed(command_id="c", sequence=9)))
    hive.on("POST /v1/dlq/b/replay", document(Refused(command_id="c", code="task_ended", detail="too late")))
    hive.on("POST /v1/dlq/c/replay", document(Failed(command_id="c", dead_letter="c", detail="again")))

    assert run("dlq", "replay", "a").exit_code == 0
    refused = run("dlq", "replay", "b")
    assert (refused.exit_code, refused.stdout) == (4, "b  refused: too late (task_ended)\n")
    assert run("dlq", "replay", "c").exit_code == 1


def test_a_dead_letter_is_dropped(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/dlq/d1/drop", document(msgspec.structs.replace(LETTER, state="dropped")))

    assert run("dlq", "drop", "d1").stdout == "d1  dropped\n"


HOST = {"name": "local", "state": "heard", "running": 2, "engines": ["echo", "shell"], "last_heard_s": 0.5}
STATUS = {
    "version": "0.1.0",
    "at": NOON,
    "services": [{"name": "orchestrator", "reachable": True, "answered_in_ms": 1.3, "dead_letters": 0}],
    "queues": [{"service": "orchestrator", "waiting": 3, "bytes": 900, "share": 0.01, "oldest_s": 0.5}],
    "counts": {"tasks": {"queued": 3}, "bots": {}},
    "hosts": [HOST],
}


def test_status_tells_services_queues_and_counts(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/status", document(STATUS))

    result = run("status")

    assert result.exit_code == 0
    assert "orchestrator  ready  1.3 ms       3        1.0%   500 ms  0" in result.stdout
    assert "tasks  3 queued" in result.stdout
    assert "bots   none" in result.stdout


def test_a_service_that_is_away_makes_status_exit_5(run: Run, hive: FakeHive) -> None:
    away = {"name": "orchestrator", "reachable": False, "detail": "nobody answers"}
    hive.on("GET /v1/status", document({**STATUS, "services": [away], "queues": [], "counts": None}))

    result = run("status")

    assert result.exit_code == 5
    assert "nobody answers" in result.stdout


def test_status_tells_the_bot_hosts_and_a_silent_one_is_exit_5(run: Run, hive: FakeHive) -> None:
    silent = {**HOST, "name": "other", "state": "silent", "running": 0, "last_heard_s": 90.0}
    hive.on("GET /v1/status", document(STATUS), document({**STATUS, "hosts": [HOST, silent]}))

    well, ill = run("status"), run("status")

    assert (well.exit_code, ill.exit_code) == (0, 5)
    assert "local     heard  2     500 ms ago   echo, shell" in well.stdout
    assert "other     silent  0     1.5 min ago  echo, shell" in ill.stdout


def test_status_says_when_no_bot_host_was_ever_heard(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/status", document({**STATUS, "hosts": []}))

    assert "No bot host has been heard" in run("status").stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "invalid_query", 2),
        (401, "key_unknown", 4),
        (403, "scope_missing", 4),
        (404, "bot_not_found", 3),
        (409, "bot_exists", 4),
        (409, "behind", 5),
        (413, "body_too_large", 2),
        (422, "idempotency_key_reused", 4),
        (429, "rate_limited", 5),
        (500, "internal", 1),
        (503, "queue_full", 5),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_says_what_to_type(
    run: Run, hive: FakeHive, status: int, code: str, exit_code: int
) -> None:
    hive.on("GET /v1/bots", problem(status, code, "what happened"))

    result = run("bots")

    what, why, todo = result.stderr.splitlines()
    assert (result.exit_code, what) == (exit_code, "error: what happened")
    assert why == f"  why:  Wrong ({code})"
    assert todo.startswith("  next: ")
    assert len(todo) > 10


def test_an_error_names_the_field_and_how_long_to_wait(run: Run, hive: FakeHive) -> None:
    wrong = [{"pointer": "/retry/attempts_max", "detail": "at most 20"}]
    answer = problem(429, "rate_limited", "too often", headers={"Retry-After": "7"}, errors=wrong)
    hive.on("GET /v1/bots", answer)

    why = run("bots").stderr.splitlines()[1]

    assert "/retry/attempts_max: at most 20" in why
    assert "it asks to wait 7 s" in why


def test_an_error_as_json_holds_the_problem_itself(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots", problem(403, "scope_missing", "this needs bots:read"))

    result = run("bots", "--json")

    told = msgspec.json.decode(result.stderr)
    assert (told["error"], told["exit_code"]) == ("this needs bots:read", 4)
    assert told["problem"]["code"] == "scope_missing"
    assert result.stdout == ""


def test_a_dead_lettered_command_names_its_letter(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks", problem(500, "dead_lettered", "it lies there", dead_letter="d1"))

    assert "hive dlq replay d1" in run("submit", "x").stderr


def test_an_answer_that_is_no_document_is_an_error_not_a_traceback(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/bots", document(["not", "a", "page"]))

    result = run("bots")

    assert result.exit_code == 1
    assert "something that is not understood" in result.stderr
