"""The API as the command sees it: the documents of the contracts at the documented routes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.orchestrator.facts import BotSpec, Output, RetryPolicy, TaskError
from shared.contracts.orchestrator.queries import Attempt, BotDoc, TaskDoc
from shared.contracts.words import BotId, MessageId, MessageKind, Party, Priority, TaskId, TaskType

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
Answer = Callable[[httpx.Request], httpx.Response]


class FakeHive:
    """Gives the answers it was told, one after another, the last for ever; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self._answers: dict[str, list[Answer]] = {}

    def on(self, route: str, *answers: httpx.Response | Answer) -> None:
        """`on("GET /v1/tasks", …)`."""
        self._answers[route] = [
            answer if callable(answer) else (lambda _request, answer=answer: answer) for answer in answers
        ]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answers = self._answers.get(f"{request.method} {request.url.path}")
        if not answers:
            return problem(404, "not_found", f"there is no {request.method} {request.url.path}")
        return (answers.pop(0) if len(answers) > 1 else answers[0])(request)

    @property
    def last(self) -> httpx.Request:
        return self.asked[-1]

    def body(self, index: int = -1) -> Any:
        """What was sent, decoded."""
        return msgspec.json.decode(self.asked[index].content)

    def routes(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.asked]


def document(content: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, content=msgspec.json.encode(content), headers={"Content-Type": "application/json", **headers}
    )


def page(*items: object, next_cursor: str | None = None) -> httpx.Response:
    return document({"items": list(items), "next_cursor": next_cursor})


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: object
) -> httpx.Response:
    told = {"title": "Wrong", "status": status, "code": code, "detail": detail, **more}
    return httpx.Response(status, content=msgspec.json.encode(told), headers=headers)


def task(task_id: str = "t1", state: str = "completed", **more: Any) -> TaskDoc:
    ended = state in {"completed", "failed", "cancelled", "expired"}
    given: dict[str, Any] = {
        "type": TaskType.CODE,
        "type_reason": "given",
        "priority": Priority.P2,
        "content": "git status",
        "submitter": "k1",
        "submitted_at": NOON,
        "timeout_s": 60.0,
        "retry": RetryPolicy(),
        "version": 7,
        "updated_at": NOON,
        "bot": None if state == "queued" else BotId("alpha"),
        "ended_at": NOON + timedelta(milliseconds=12) if ended else None,
        "output": Output(text="on branch main\n", exit_code=0) if state == "completed" else None,
        "error": TaskError(code="exit_nonzero", detail="ls exited with 2") if state == "failed" else None,
    }
    return TaskDoc(id=TaskId(task_id), state=state, **(given | more))


def attempt(number: int, end: str, **more: Any) -> Attempt:
    return Attempt(attempt=number, bot=BotId("alpha"), token=number, assigned_at=NOON, end=end, **more)


def bot(name: str = "alpha", state: str = "idle", **more: Any) -> BotDoc:
    given: dict[str, Any] = {
        "spec": BotSpec(engine="shell"),
        "generation": 1,
        "launched_at": NOON,
        "version": 3,
        "updated_at": NOON,
        "pid": 4711,
        "rss_bytes": 27_400_000,
        "uptime_s": 90.0,
        "free_slots": 3,
    }
    return BotDoc(name=BotId(name), state=state, **(given | more))


def message(message_id: str = "m1", state: str = "delivered", **more: Any) -> MessageDoc:
    given: dict[str, Any] = {
        "sequence": 5,
        "version": 6,
        "sender": Party("alpha"),
        "recipient": Party("beta"),
        "content": "the build is red",
        "priority": Priority.P0,
        "kind": MessageKind.NOTE,
        "sent_at": NOON,
        "updated_at": NOON,
        "expires_at": NOON + timedelta(hours=1),
        "deliveries": 1,
        "deliveries_max": 3,
    }
    return MessageDoc(id=MessageId(message_id), state=state, **(given | more))
