"""Tasks over HTTP."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.orchestrator.commands import AssignTask
from shared.contracts.orchestrator.commands import Done, ReportTask, SubmitTask
from shared.contracts.orchestrator.facts import Candidate, Decision, Output
from shared.contracts.words import CONTENT_CHARS_MAX, INLINE_BYTES_MAX, INPUT_BYTES_MAX, BotId, TaskId
from tests.support.api import ADMIN, ApiHive, letter

ALPHA = BotId("alpha")


@pytest.fixture
async def hive() -> ApiHive:
    made = ApiHive()
    await made.key()
    return made


async def post(hive: ApiHive, path: str, body: Any = None, **headers: str) -> httpx.Response:
    async with hive.client(
        ADMIN, **{name.replace("_", "-"): value for name, value in headers.items()}
    ) as client:
        return await client.post(path, json=body) if body is not None else await client.post(path)


async def get(hive: ApiHive, path: str, **headers: str) -> httpx.Response:
    async with hive.client(
        ADMIN, **{name.replace("_", "-"): value for name, value in headers.items()}
    ) as client:
        return await client.get(path)


async def submit(hive: ApiHive, content: str = "git status") -> TaskId:
    answer = await post(hive, "/v1/tasks", {"content": content})
    assert answer.status_code == 201, answer.text
    return TaskId(answer.json()["id"])


async def complete(hive: ApiHive, task_id: TaskId, text: str = "done") -> None:
    """A bot gets the task and does it."""
    decision = Decision(candidates=[Candidate(bot_id=ALPHA, free=1)], candidates_total=1)
    await hive.decide(AssignTask(task_id=task_id, bot_id=ALPHA, decision=decision))
    token = await hive.store.version("task", task_id)
    await hive.decide(
        ReportTask(
            task_id=task_id,
            bot_id=ALPHA,
            token=token,
            started_at=hive.now,
            ended_at=hive.now,
            end=Done(output=Output(text=text, size_bytes=len(text))),
        )
    )


async def test_a_task_is_submitted_and_shown(hive: ApiHive) -> None:
    answer = await post(hive, "/v1/tasks", {"content": "git status", "type": "code", "priority": "P1"})
    task = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert answer.headers["hive-version"] == str(task["version"])
    assert (task["state"], task["type"], task["priority"], task["content"]) == (
        "queued",
        "code",
        "P1",
        "git status",
    )
    shown = await get(hive, answer.headers["location"])
    assert (shown.status_code, shown.json()) == (200, task)


async def test_every_field_reaches_the_owner(hive: ApiHive) -> None:
    body = {
        "content": "fix it",
        "type": "testing",
        "priority": "P0",
        "input": "some input",
        "engine": "shell",
        "bot": "alpha",
        "pool": "fast",
        "timeout_s": 12.5,
        "deadline": "2030-01-02T00:00:00+02:00",
        "retry": {"attempts_max": 5, "backoff_first_s": 0.5, "backoff_max_s": 9, "side_effects": "ask"},
    }
    await post(hive, "/v1/tasks", body)
    command = hive.sent[-1]
    assert isinstance(command, SubmitTask)
    assert (command.content, command.type, command.priority) == ("fix it", "testing", "P0")
    assert (command.input, command.input_file) == ("some input", None)
    assert (command.engine, command.bot, command.pool) == ("shell", "alpha", "fast")
    assert (command.timeout_s, command.deadline) == (12.5, hive.now.replace(hour=22))
    assert (command.retry.attempts_max, command.retry.backoff_max_s, command.retry.side_effects) == (
        5,
        9,
        "ask",
    )
    assert command.submitter in hive.keys._docs


async def test_a_tree_is_shown_and_can_be_cancelled_when_its_root_has_ended(hive: ApiHive) -> None:
    root = await submit(hive)
    await complete(hive, root)
    refused = await post(hive, f"/v1/tasks/{root}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "task_ended")

    answer = await post(hive, f"/v1/tasks/{root}/cancel?tree=true")
    assert (answer.status_code, answer.json()["state"]) == (200, "completed")
    assert answer.json()["tree_cancelled"] is True

    tree = await get(hive, f"/v1/tasks/{root}/tree")
    assert tree.status_code == 200
    assert [(node["id"], node["depth"]) for node in tree.json()["nodes"]] == [(root, 0)]
    assert (await get(hive, "/v1/tasks/nobody/tree")).status_code == 404
    assert (await post(hive, f"/v1/tasks/{root}/cancel?tree=perhaps")).status_code == 400


async def test_a_task_may_come_after_others_by_their_ids_or_by_the_callers_own_keys(hive: ApiHive) -> None:
    first = await post(hive, "/v1/tasks", {"content": "first"}, Idempotency_Key="one")
    first_id = first.json()["id"]
    body = {"content": "then", "after": ["other", first_id], "after_keys": ["one", "two"]}
    answer = await post(hive, "/v1/tasks", body)
    second = await post(hive, "/v1/tasks", {"content": "second"}, Idempotency_Key="two")
    task = answer.json()
    assert (answer.status_code, task["state"]) == (201, "waiting")
    assert task["after"] == ["other", first_id, second.json()["id"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/content"),
        ({"content": ""}, "/content"),
        ({"content": "x" * (CONTENT_CHARS_MAX + 1)}, "/content"),
        ({"content": 7}, "/content"),
        ({"content": "x", "type": "news"}, "/type"),
        ({"content": "x", "priority": "P4"}, "/priority"),
        ({"content": "x", "bot": "a.b"}, "/bot"),
        ({"content": "x", "bot": "alpha\n"}, "/bot"),
        ({"content": "x", "pool": "a" * 51}, "/pool"),
        ({"content": "x", "engine": ""}, "/engine"),
        ({"content": "x", "timeout_s": 0}, "/timeout_s"),
        ({"content": "x", "timeout_s": "1"}, "/timeout_s"),
        ({"content": "x", "timeout_s": 10**9}, "/timeout_s"),
        ({"content": "x", "deadline": "2030-01-01T00:00:00"}, "/deadline"),
        ({"content": "x", "deadline": "soon"}, "/deadline"),
        ({"content": "x", "retry": {"attempts_max": 0}}, "/retry/attempts_max"),
        ({"content": "x", "retry": {"times": 3}}, "/retry/times"),
        ({"content": "x", "retry": None}, "/retry"),
        ({"content": "x", "input": ["a"]}, "/input"),
        ({"content": "x", "input": "ä" * (INPUT_BYTES_MAX // 2 + 1)}, "/input"),
        ({"content": "x", "colour": "red"}, "/colour"),
        ({"content": "x", "after": ["a.b"]}, "/after/0"),
        ({"content": "x", "after": ["a"] * 101}, "/after"),
        ({"content": "x", "after": ["a"] * 60, "after_keys": ["k"] * 60}, "/after_keys"),
        ({"content": "x", "after_policy": "failed"}, "/after_policy"),
        ([], ""),
    ],
)
async def test_a_bad_task_is_pointed_at_and_reaches_nobody(hive: ApiHive, body: Any, pointer: str) -> None:
    hive.sent.clear()
    answer = await post(hive, "/v1/tasks", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert hive.sent == []


async def test_content_is_never_rewritten(hive: ApiHive) -> None:
    content = '<b>&amp; \u202e\U0001f41d "quotes" \\ and\nlines'
    task_id = await submit(hive, content)
    assert (await get(hive, f"/v1/tasks/{task_id}")).json()["content"] == content


async def test_a_body_above_its_limit_is_refused(hive: ApiHive) -> None:
    answer = await post(hive, "/v1/tasks", {"content": "x", "input": "x" * 3_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_large_input_is_stored_before_the_task(hive: ApiHive) -> None:
    text = "line\n" * (INLINE_BYTES_MAX // 5 + 1)
    task = (await post(hive, "/v1/tasks", {"content": "x", "input": text})).json()
    assert task["input"] is None
    assert task["input_file"]["size_bytes"] == len(text)
    file = await get(hive, f"/v1/files/{task['input_file']['sha256']}")
    assert (file.status_code, file.text) == (200, text)


async def test_the_same_key_and_body_is_one_task(hive: ApiHive) -> None:
    first = await post(hive, "/v1/tasks", {"content": "x", "priority": "P2"}, Idempotency_Key="order-7")
    again = await post(hive, "/v1/tasks", {"content": "x"}, Idempotency_Key="order-7")
    assert [first.status_code, again.status_code] == [201, 201]
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    "written",
    [
        {"timeout_s": 3600},
        {"retry": {}},
        {"retry": {"attempts_max": 3, "backoff_first_s": 1}},
        {"type": None, "deadline": None},
    ],
)
async def test_what_is_so_anyhow_may_be_written_or_left_out(hive: ApiHive, written: dict[str, Any]) -> None:
    first = await post(hive, "/v1/tasks", {"content": "x"}, Idempotency_Key="order-7")
    again = await post(hive, "/v1/tasks", {"content": "x", **written}, Idempotency_Key="order-7")
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (201, "true")
    assert again.json() == first.json()


async def test_the_same_key_with_another_body_is_refused(hive: ApiHive) -> None:
    await post(hive, "/v1/tasks", {"content": "x"}, Idempotency_Key="order-7")
    answer = await post(hive, "/v1/tasks", {"content": "y"}, Idempotency_Key="order-7")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_two_callers_do_not_share_their_idempotency_keys(hive: ApiHive) -> None:
    await hive.key("hive_another-caller-of-the-tests")
    first = await post(hive, "/v1/tasks", {"content": "x"}, Idempotency_Key="order-7")
    async with hive.client("hive_another-caller-of-the-tests") as client:
        other = await client.post("/v1/tasks", json={"content": "y"}, headers={"Idempotency-Key": "order-7"})
    assert other.status_code == 201
    assert first.json()["id"] != other.json()["id"]


async def test_without_a_key_each_request_is_a_task_of_its_own(hive: ApiHive) -> None:
    assert await submit(hive, "x") != await submit(hive, "x")


async def test_a_short_answer_may_be_preferred(hive: ApiHive) -> None:
    answer = await post(hive, "/v1/tasks", {"content": "x"}, Prefer="return=minimal")
    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "version"}
    assert answer.headers["preference-applied"] == "return=minimal"


async def test_what_is_not_decided_in_time_is_accepted_and_found_later(hive: ApiHive) -> None:
    hive.undecided = True
    answer = await post(hive, "/v1/tasks", {"content": "x"})
    location = answer.headers["location"]
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    assert location == f"/v1/tasks/{answer.json()['id']}"
    for path in ("", "?wait=1", "/timeline", "/why", "/stream"):
        waiting = await get(hive, f"{location}{path}")
        assert (waiting.status_code, waiting.headers["location"]) == (202, location), path
    await hive.catch_up()
    assert (await get(hive, location)).json()["state"] == "queued"


async def test_a_task_that_lies_dead_says_so(hive: ApiHive) -> None:
    hive.letters.append(letter("d1", key="t1"))
    answer = await get(hive, "/v1/tasks/t1")
    assert (answer.status_code, answer.json()["code"], answer.json()["dead_letter"]) == (
        500,
        "dead_lettered",
        "d1",
    )


async def test_a_command_that_could_not_be_handled_says_where_it_lies(hive: ApiHive) -> None:
    hive.failing = True
    answer = await post(hive, "/v1/tasks", {"content": "x"})
    assert (answer.status_code, answer.json()["dead_letter"]) == (500, "letter-1")


@pytest.mark.parametrize("task_id", ["nobody", "a.b", "*", "%3E", "a%20b", "x" * 80])
async def test_a_task_that_is_not_there_is_not_found(hive: ApiHive, task_id: str) -> None:
    async with hive.client() as client:
        for method, path in [
            ("GET", ""),
            ("GET", "?wait=1"),
            ("GET", "/timeline"),
            ("GET", "/why"),
            ("GET", "/stream"),
            ("POST", "/cancel"),
            ("POST", "/resume"),
        ]:
            answer = await client.request(method, f"/v1/tasks/{task_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found"), path


async def test_a_decided_task_is_not_refused_because_its_view_is_away(hive: ApiHive) -> None:
    hive.seen_until = 0
    answer = await post(hive, "/v1/tasks", {"content": "x"})
    assert (answer.status_code, answer.headers["hive-version"]) == (202, "2")


async def test_a_reader_may_ask_for_what_it_wrote(hive: ApiHive) -> None:
    task_id = await submit(hive)
    hive.seen_until = 5
    assert (await get(hive, f"/v1/tasks/{task_id}", Hive_Version="5")).status_code == 200
    for path in (f"/v1/tasks/{task_id}", "/v1/tasks", "/v1/bots", "/v1/keys"):
        behind = await get(hive, path, Hive_Version="6")
        assert (behind.status_code, behind.json()["code"]) == (409, "behind"), path
        assert behind.headers["retry-after"] == "1"


async def test_a_broker_that_is_away_is_said_with_when_to_come_again(hive: ApiHive) -> None:
    hive.broker_away = True
    for answer in (await post(hive, "/v1/tasks", {"content": "x"}), await get(hive, "/v1/tasks")):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_a_waiting_caller_gets_the_result(hive: ApiHive) -> None:
    task_id = await submit(hive)
    await complete(hive, task_id, "clean")
    shown = (await get(hive, f"/v1/tasks/{task_id}?wait=5")).json()
    assert (shown["state"], shown["output"]["text"]) == ("completed", "clean")


async def test_a_wait_ends_when_the_process_leaves(hive: ApiHive) -> None:
    task_id = await submit(hive)
    asked = asyncio.Event()
    answer_of = hive.ask

    async def slow(query: Any, **told: Any) -> Any:
        if type(query).__name__ == "AwaitTask":
            asked.set()
            await asyncio.Event().wait()
        return await answer_of(query, **told)

    object.__setattr__(hive.doors, "ask", slow)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(get(hive, f"/v1/tasks/{task_id}?wait=30"))
        await asked.wait()
        hive.doors.patience.end()
    assert (waiting.result().status_code, waiting.result().json()["state"]) == (200, "queued")


@pytest.mark.parametrize("wait", ["-1", "31", "soon", "nan"])
async def test_a_wait_has_bounds(hive: ApiHive, wait: str) -> None:
    task_id = await submit(hive)
    assert (await get(hive, f"/v1/tasks/{task_id}?wait={wait}")).status_code == 400


async def test_tasks_are_listed_newest_first_in_pages(hive: ApiHive) -> None:
    ids = [await submit(hive, f"task {number}") for number in range(3)]
    first = (await get(hive, "/v1/tasks?limit=2&state=queued")).json()
    rest = (await get(hive, f"/v1/tasks?limit=2&state=queued&cursor={first['next_cursor']}")).json()
    assert [task["id"] for task in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    ["state=done", "limit=0", "limit=201", "type=news", "priority=1", "bot=a.b", "cursor=x", "order=asc"],
)
async def test_a_list_is_asked_for_precisely(hive: ApiHive, query: str) -> None:
    answer = await get(hive, f"/v1/tasks?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_a_task_is_cancelled_with_its_reason(hive: ApiHive) -> None:
    task_id = await submit(hive)
    answer = await post(hive, f"/v1/tasks/{task_id}/cancel", {"reason": "no longer needed"})
    assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (
        200,
        "cancelled",
        "no longer needed",
    )
    assert answer.headers["hive-version"] == str(answer.json()["version"])


async def test_cancelling_needs_no_body_but_takes_no_bad_one(hive: ApiHive) -> None:
    task_id = await submit(hive)
    bad = await post(hive, f"/v1/tasks/{task_id}/cancel", {"why": "x"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (400, "/why")
    assert (await post(hive, f"/v1/tasks/{task_id}/cancel")).json()["state"] == "cancelled"


async def test_what_has_ended_cannot_be_resumed(hive: ApiHive) -> None:
    task_id = await submit(hive)
    await complete(hive, task_id)
    assert (await post(hive, f"/v1/tasks/{task_id}/resume")).status_code == 409


async def test_a_change_that_is_not_decided_in_time_is_accepted(hive: ApiHive) -> None:
    task_id = await submit(hive)
    hive.undecided = True
    answer = await post(hive, f"/v1/tasks/{task_id}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/tasks/{task_id}")


async def test_the_timeline_tells_every_fact_with_its_actor(hive: ApiHive) -> None:
    task_id = await submit(hive)
    await complete(hive, task_id)
    entries = (await get(hive, f"/v1/tasks/{task_id}/timeline")).json()["entries"]
    assert [entry["fact"] for entry in entries] == [
        "TaskSubmitted",
        "TaskAssigned",
        "TaskStarted",
        "TaskCompleted",
    ]
    assert entries[0]["actor"].startswith("key:")


async def test_why_says_what_a_task_waits_for(hive: ApiHive) -> None:
    task_id = await submit(hive)
    answer = await get(hive, f"/v1/tasks/{task_id}/why")
    assert (answer.status_code, answer.json()["waits_for"]) == (200, "a_bot")


async def test_a_file_that_is_not_there_is_not_found(hive: ApiHive) -> None:
    for name in ("0" * 64, "nothing", "..%2f"):
        assert (await get(hive, f"/v1/files/{name}")).status_code == 404


async def test_a_large_file_comes_whole(hive: ApiHive) -> None:
    data = bytes(range(256)) * 5_000
    name = hive._put(data).sha256
    answer = await get(hive, f"/v1/files/{name}")
    assert answer.content == data
    exact = hive._put(data[: 512 * 1024]).sha256
    assert (await get(hive, f"/v1/files/{exact}")).content == data[: 512 * 1024]


async def test_a_full_queue_takes_only_the_urgent(hive: ApiHive) -> None:
    from services.gateway.backpressure import Load  # noqa: PLC0415

    hive.loads["orchestrator"] = Load(messages=1, bytes=75, bytes_max=100)
    refused = await post(hive, "/v1/tasks", {"content": "x"})
    urgent = await post(hive, "/v1/tasks", {"content": "x", "priority": "P1"})
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
        429,
        "queue_busy",
        "1",
    )
    assert urgent.status_code == 201


async def test_an_expired_deadline_is_recorded_not_refused(hive: ApiHive) -> None:
    past = (hive.now - timedelta(hours=1)).isoformat()
    answer = await post(hive, "/v1/tasks", {"content": "x", "deadline": past})
    assert (answer.status_code, answer.json()["state"]) == (201, "expired")
