"""Each kind of error has one answer."""

import logging

import httpx
import pytest
from litestar import Litestar, get

from shared.kernel.errors import Behind, NotFound, Rejected, Unavailable
from shared.kernel.messages import AlreadySo, Committed, Failed, Refused
from shared.runtime.answers import settled
from shared.runtime.commands import QueueFull
from shared.runtime.problems import QueueBusy, Refusal, refusal_of, response_of


@pytest.mark.parametrize(
    ("error", "status", "code", "again"),
    [
        (Rejected("task_ended", "it is over"), 409, "task_ended", None),
        (Rejected("idempotency_key_reused", "other body"), 422, "idempotency_key_reused", None),
        (Rejected("bot_not_found", "no"), 404, "bot_not_found", None),
        (Rejected("bad_cursor", "no"), 400, "bad_cursor", None),
        (NotFound("task_not_found", "no"), 404, "task_not_found", None),
        (Behind("at 3"), 409, "behind", "1"),
        (QueueBusy("80 %"), 429, "queue_busy", "1"),
        (QueueFull("100 %"), 503, "queue_full", "1"),
        (Unavailable("away"), 503, "unavailable", "1"),
        (RuntimeError("secret"), 500, "internal", None),
    ],
)
def test_every_error_says_what_to_do_next(
    error: Exception, status: int, code: str, again: str | None
) -> None:
    refusal = refusal_of(error)
    assert (refusal.problem.status, refusal.problem.code) == (status, code)
    assert refusal.headers.get("Retry-After") == again
    assert "secret" not in refusal.problem.detail


def test_an_outcome_is_a_version_or_an_error() -> None:
    assert settled(Committed(command_id="c", sequence=5)) == 5
    assert settled(AlreadySo(command_id="c", sequence=6)) == 6
    with pytest.raises(Rejected, match="no_way"):
        settled(Refused(command_id="c", code="no_way", detail="…"))
    with pytest.raises(Refusal, match="dead_lettered") as dead:
        settled(Failed(command_id="c", dead_letter="d1", detail="boom"))
    assert (dead.value.problem.status, dead.value.problem.dead_letter) == (500, "d1")


async def test_a_defect_is_logged_and_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    @get("/broken")
    async def broken() -> str:
        raise RuntimeError("the secret is 42")

    app = Litestar([broken], exception_handlers={Exception: response_of}, logging_config=None)
    with caplog.at_level(logging.ERROR):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            answer = await client.get("/broken")
    assert answer.status_code == 500
    assert "42" not in answer.text
    assert "GET /broken failed" in caplog.text
