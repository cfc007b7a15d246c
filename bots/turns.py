"""Turns of a chat: the bot's engine does what a message asks, and what it says is sent back."""

import asyncio
import logging
from typing import Final, assert_never

from bots.endings import Ending, Read, Returned, plain_code, plain_reason, printable
from bots.engines import Work
from bots.run import Bench
from bots.showing import Showing
from bots.talk import NotSent, Talk
from shared.contracts.messenger.facts import MessageError
from shared.contracts.messenger.protocol import Mail
from shared.contracts.orchestrator.commands import Done, End, Stopped, Undone
from shared.contracts.orchestrator.facts import TaskError
from shared.contracts.orchestrator.protocol import Assignment
from shared.contracts.words import MESSAGE_CHARS_MAX, TaskId, TaskType
from shared.runtime.clock import monotonic, now

TURN_WITHIN_S: Final = 600.0
NO_OUTPUT: Final = "(no output)"
CUT: Final = "\n\n[cut: this is the beginning of {} characters]"

_log = logging.getLogger(__name__)


class Turns:
    """Answers chat messages by an engine. One whose process ends on the way is begun again by the next."""

    def __init__(self, bench: Bench, talk: Talk) -> None:
        self._bench = bench
        self._talk = talk

    async def take(self, mail: Mail, group: asyncio.TaskGroup) -> Ending:
        """Let the engine answer; ends when the answer is decided, so that it is never lost."""
        limit_s = max(0.0, min(TURN_WITHIN_S, (mail.expires_at - now()).total_seconds()))
        task = _task_of(mail, limit_s)
        showing = Showing(task, self._bench.publish, group)
        told: str | None = None
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                work = Work(task, self._bench.workspace, None, monotonic() + limit_s)
                end = await self._bench.engine.run(work, showing.written)
        except Exception as error:  # noqa: BLE001  an engine may fail in any way: that is the turn's end
            if not limit.expired():
                _log.exception("the engine failed on the message %s", mail.message_id)
                return Returned("engine_failed", f"{type(error).__name__}: {error}")
            detail = f"no answer within {limit_s:g} s"
            end = Undone(error=TaskError(code="timed_out", detail=detail), output=showing.written.output())
        else:
            told = told_by(end)
        finally:
            await showing.stop(told=told)
        return await self._answer(mail, end)

    async def _answer(self, mail: Mail, end: End) -> Ending:
        try:
            match end:
                case Done():
                    await self._talk.answer(mail, fitting(end.output.text or NO_OUTPUT))
                case Undone():
                    code, detail = plain_code(end.error.code), plain_reason(end.error.detail)
                    error = MessageError(code=code, detail=detail)
                    await self._talk.answer(mail, fitting(in_words(end)), error=error)
                case Stopped():
                    return Returned("turn_stopped", end.reason)
                case _:
                    assert_never(end)
        except NotSent as refused:
            reason = f"its answer was refused: {refused}"
            return Returned(refused.code, reason, retryable=refused.code == "inbox_full")
        return Read()


def _task_of(mail: Mail, timeout_s: float) -> Assignment:
    return Assignment(
        task_id=TaskId(mail.message_id),
        token=mail.delivery,
        attempt=mail.delivery,
        type=TaskType.OTHER,
        content=mail.content,
        timeout_s=timeout_s,
        chain=mail.chain,
    )


def told_by(end: End) -> str | None:
    """The text that the answer tells whole; None if it tells only a part of it, or nothing."""
    match end:
        case Done() if len(end.output.text) <= MESSAGE_CHARS_MAX:
            return end.output.text
        case Done() | Undone() | Stopped():
            return None
        case _:
            assert_never(end)


def in_words(end: Undone) -> str:
    """What a person reads when there is no answer: why, and what was said before."""
    why = f"{end.error.detail} ({end.error.code})"
    return f"{why}\n\n{end.output.text}" if end.output.text else why


def fitting(text: str) -> str:
    """The text, or as much of it as a message may hold, and that it was cut."""
    text = printable(text)
    if len(text) <= MESSAGE_CHARS_MAX:
        return text
    said = CUT.format(len(text))
    return text[: MESSAGE_CHARS_MAX - len(said)] + said
