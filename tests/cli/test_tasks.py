"""How tasks are listed and looked at."""

from datetime import datetime

import httpx
import msgspec
import pytest

from cli.events import Event, parse
from shared.contracts.orchestrator.facts import Candidate, Decision
from shared.contracts.orchestrator.queries import BotVerdict, Timeline, TimelineEntry, Tree, TreeNode, Why
from shared.contracts.words import BotId, TaskId, TaskType
from tests.cli.conftest import Run
from tests.cli.fake_hive import NOON, FakeHive, attempt, document, page, problem, task


def test_tasks_are_asked_for_by_state_type_bot_and_priority(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks", page(task("t2", "failed"), task("t1")))

    result = run("tasks", "--state", "failed", "--type", "code", "--bot", "alpha", "--priority", "P0")

    assert dict(hive.last.url.params) == {
        "state": "failed",
        "type": "code",
        "bot": "alpha",
        "priority": "P0",
        "limit": "50",
    }
    heading, first, second = result.stdout.splitlines()
    assert heading.split() == ["ID", "STATE", "TYPE", "PRIORITY", "BOT", "TOOK", "CONTENT"]
    assert first.split() == ["t2", "failed", "code", "P2", "alpha", "12", "ms", "git", "status"]
    assert second.startswith("t1")


def test_a_long_list_comes_page_after_page(run: Run, hive: FakeHive) -> None:
    pages = [page(*[task(f"t{n}") for n in range(200)], next_cursor="c1"), page(task("last"))]
    hive.on("GET /v1/tasks", *pages)

    result = run("tasks", "--limit", "500", "--json")

    told = msgspec.json.decode(result.stdout)
    assert len(told["items"]) == 201
    assert told["next_cursor"] is None
    assert [request.url.params.get("cursor") for request in hive.asked] == [None, "c1"]
    assert [request.url.params["limit"] for request in hive.asked] == ["200", "200"]


def test_what_follows_is_said(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks", page(task("t1"), next_cursor="c1"))

    result = run("tasks", "--limit", "1")

    assert "--cursor c1" in result.stderr


def test_no_tasks_is_no_error(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks", page())

    result = run("tasks")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No tasks." in result.stderr


def test_a_task_is_shown_with_its_attempts_and_output(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks/t1", document(task(attempts=(attempt(1, "lost"), attempt(2, "completed")))))

    result = run("task", "show", "t1")

    assert "state       completed" in result.stdout
    assert "lost" in result.stdout
    assert result.stdout.endswith("on branch main\n")


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_deadline_that_has_no_local_time_is_shown_as_it_was_written(
    run: Run, hive: FakeHive, end: str
) -> None:
    hive.on("GET /v1/tasks/t1", document(task(deadline=datetime.fromisoformat(end))))

    result = run("task", "show", "t1")

    assert result.exit_code == 0
    assert end.replace("T", " ") in result.stdout


def test_a_task_that_is_not_there_is_exit_3(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks/t9", problem(404, "task_not_found", "there is no task t9"))

    result = run("task", "show", "t9")

    assert result.exit_code == 3
    assert "error: there is no task t9" in result.stderr
    assert "next: `hive tasks`" in result.stderr


def test_why_tells_bot_by_bot(run: Run, hive: FakeHive) -> None:
    why = Why(
        id=TaskId("t1"),
        state="queued",
        explanation="no bot can do this now",
        waits_for="a_bot",
        queue_position=2,
        bots=[BotVerdict(bot=BotId("alpha"), reason="it does only testing")],
        decision=Decision(
            candidates=[Candidate(bot_id=BotId("beta"), free=2)],
            candidates_total=1,
            passed_over={"other_engine": 3},
        ),
        advice="launch one",
    )
    hive.on("GET /v1/tasks/t1/why", document(why))

    result = run("task", "why", "t1")

    assert "no bot can do this now" in result.stdout
    assert "number 2 in the queue" in result.stdout
    assert "alpha  it does only testing" in result.stdout
    assert "It was last given to beta (2 free slots): it had the most free slots" in result.stdout
    assert "1 could do it. Passed over: 3: other engine." in result.stdout
    assert "next: launch one" in result.stdout


def test_why_tells_what_was_known_of_the_candidates_and_the_chance(run: Run, hive: FakeHive) -> None:
    alpha = Candidate(bot_id=BotId("alpha"), free=3, score=0.91, samples=40)
    beta = Candidate(bot_id=BotId("beta"), free=1, score=0.5)
    decision = Decision(
        candidates=[beta, alpha], candidates_total=2, policy="efficient", explored=True, propensity=0.021
    )
    why = Why(id=TaskId("t1"), state="running", explanation="…", waits_for="the_bot", decision=decision)
    hive.on("GET /v1/tasks/t1/why", document(why))

    told = run("task", "why", "t1").stdout

    assert "beta (1 free slots): another than the best was tried, to learn (chance 2.1%)" in told
    assert "the best others: alpha (3 free slots, score 0.91 of 40 tasks)." in told


def test_a_timeline_has_a_line_for_each_fact(run: Run, hive: FakeHive) -> None:
    entry = TimelineEntry(
        sequence=3,
        at=NOON,
        fact="TaskAssigned",
        actor="svc-orchestrator",
        cause="c",
        after_ms=1.5,
        since_start_ms=4.0,
        detail=msgspec.Raw(b'{"fact":"TaskAssigned","task_id":"t1","bot_id":"alpha","attempt":1}'),
    )
    hive.on("GET /v1/tasks/t1/timeline", document(Timeline(id=TaskId("t1"), entries=[entry])))

    result = run("task", "timeline", "t1")

    assert "+1.5 ms" in result.stdout
    assert "bot_id=alpha attempt=1" in result.stdout
    assert "task_id=t1" not in result.stdout


def stream(*events: bytes) -> httpx.Response:
    return httpx.Response(200, content=b"".join(events), headers={"Content-Type": "text/event-stream"})


def chunk(sequence: int, text: str, channel: str = "out") -> bytes:
    data = {"task_id": "t1", "token": 1, "index": sequence, "text": text, "channel": channel}
    return b"id: %d\nevent: chunk\ndata: %b\n\n" % (sequence, msgspec.json.encode(data))


def end(state: str) -> bytes:
    return b"event: end\ndata: %b\n\n" % msgspec.json.encode(task(state=state))


def test_watching_prints_output_as_it_appears_until_the_end(run: Run, hive: FakeHive) -> None:
    hive.on(
        "GET /v1/tasks/t1/stream",
        stream(b": still here\n\n", chunk(5, "one\n"), chunk(6, "oh\n", "err"), end("completed")),
    )

    result = run("task", "watch", "t1")

    assert (result.exit_code, result.stdout) == (0, "one\n")
    assert "oh\n" in result.stderr
    assert "completed by alpha" in result.stderr


def test_a_stream_that_moves_or_breaks_is_resumed_behind_the_last_chunk(run: Run, hive: FakeHive) -> None:
    hive.on(
        "GET /v1/tasks/t1/stream",
        stream(chunk(5, "one\n"), b"event: moved\ndata: {}\n\n"),
        stream(chunk(6, "two\n"), b"event: chunk\nda"),
        stream(end("failed")),
    )

    result = run("task", "watch", "t1")

    assert (result.exit_code, result.stdout) == (1, "one\ntwo\n")
    assert [request.headers.get("Last-Event-ID") for request in hive.asked] == [None, "5", "6"]


def test_a_stream_outlives_a_hive_that_is_away_for_a_moment(run: Run, hive: FakeHive) -> None:
    hive.on(
        "GET /v1/tasks/t1/stream",
        stream(chunk(5, "one\n")),
        problem(503, "unavailable", "the broker is away"),
        stream(chunk(6, "two\n"), end("completed")),
    )

    assert run("task", "watch", "t1").stdout == "one\ntwo\n"


def test_a_stream_that_was_never_there_is_not_waited_for(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks/t1/stream", problem(503, "unavailable", "the broker is away"))

    assert run("task", "watch", "t1").exit_code == 5
    assert len(hive.asked) == 1


def test_a_gap_is_said(run: Run, hive: FakeHive) -> None:
    hive.on(
        "GET /v1/tasks/t1/stream", stream(b'event: gap\ndata: {"after":1,"before":9}\n\n', end("completed"))
    )

    assert "output was skipped here" in run("task", "watch", "t1").stderr


def test_a_problem_on_the_way_is_an_error_like_any_other(run: Run, hive: FakeHive) -> None:
    told = b'{"title":"Internal Server Error","status":500,"code":"internal","detail":"it broke"}'
    hive.on("GET /v1/tasks/t1/stream", stream(b"event: problem\ndata: %b\n\n" % told))

    result = run("task", "watch", "t1")

    assert result.exit_code == 1
    assert "it broke" in result.stderr


def test_a_stream_that_says_the_hive_is_away_is_resumed(run: Run, hive: FakeHive) -> None:
    told = b'{"title":"Service Unavailable","status":503,"code":"unavailable","detail":"the broker is away"}'
    hive.on(
        "GET /v1/tasks/t1/stream", stream(b"event: problem\ndata: %b\n\n" % told), stream(end("completed"))
    )

    assert run("task", "watch", "t1").exit_code == 0


def test_watching_as_json_is_a_line_for_each_event(run: Run, hive: FakeHive) -> None:
    hive.on("GET /v1/tasks/t1/stream", stream(chunk(5, "one\n"), end("completed")))

    lines = [msgspec.json.decode(line) for line in run("task", "watch", "t1", "--json").stdout.splitlines()]

    assert [line["event"] for line in lines] == ["chunk", "end"]
    assert lines[0]["data"]["text"] == "one\n"


def test_several_tasks_are_cancelled_with_a_reason(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/t1/cancel", document(task("t1", "cancelled")))
    hive.on("POST /v1/tasks/t2/cancel", document(task("t2", "cancelled")))

    result = run("task", "cancel", "t1", "t2", "--reason", "a mistake")

    assert result.exit_code == 0
    assert hive.body() == {"reason": "a mistake"}
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["t1", "cancelled"],
        ["t2", "cancelled"],
    ]


def test_a_tree_is_cancelled_and_shown(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/t1/cancel", document(task("t1", "completed")))
    nodes = [
        TreeNode(
            id=TaskId(name),
            parent=None,
            depth=depth,
            state="running",
            type=TaskType.CODE,
            content=f"do {name}",
            submitted_at=task().submitted_at,
        )
        for depth, name in enumerate(("t1", "t2"))
    ]
    hive.on("GET /v1/tasks/t1/tree", document(Tree(id=TaskId("t1"), nodes=nodes, truncated=True)))

    result = run("task", "cancel", "--tree", "t1")
    assert result.exit_code == 0, result.output
    assert hive.last.url.query == b"tree=true"

    shown = run("task", "tree", "t1")
    assert shown.exit_code == 0, shown.output
    assert [line.rstrip() for line in shown.stdout.splitlines()][1:] == [
        "t1    running  code       do t1",
        "  t2  running  code       do t2",
    ]
    assert "the first 2 are shown" in shown.stderr


def test_a_task_that_cannot_be_resumed_is_refused(run: Run, hive: FakeHive) -> None:
    hive.on("POST /v1/tasks/t1/resume", problem(409, "task_not_blocked", "t1 is not blocked"))

    result = run("task", "resume", "t1")

    assert result.exit_code == 4
    assert "t1 is not blocked" in result.stderr


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": hi", "event: a", "data: 1", "data:2", "id: 7", "", "data: x", "", "event: half"]

    assert list(parse(lines)) == [
        Event(name="a", data="1\n2", id="7"),
        Event(name="message", data="x", id="7"),
    ]
