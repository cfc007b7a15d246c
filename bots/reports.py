"""What a bot tells the orchestrator for good: claims, ends, files. Each is said again until it is stored."""

import asyncio
import hashlib
import logging
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from bots.output import beginning, limited
from bots.post import Letter, Patience, ask, letter, store
from shared.contracts.naming import REPLY_HEADER, bot_sender, file_subject
from shared.contracts.orchestrator.commands import ClaimTask, Done, End, ReportTask, Stopped, Undone
from shared.contracts.orchestrator.facts import FileRef, Output
from shared.contracts.orchestrator.protocol import Assignment, FileAnswer
from shared.contracts.words import INLINE_BYTES_MAX, BotId
from shared.kernel.errors import NotFound, Unavailable
from shared.kernel.messages import AlreadySo, Committed, Failed, Outcome, Refused
from shared.runtime.connection import Connection, status_of
from shared.runtime.ids import derived_id

DECIDED_WITHIN_S: Final = 2.0
FILE_WITHIN_S: Final = 10.0
TASK_HEADER: Final = "Hive-Task"
TOKEN_HEADER: Final = "Hive-Token"  # noqa: S105  a fencing token is no secret
ERROR_HEADER: Final = "Hive-Error"

_outcomes = msgspec.json.Decoder(Committed | AlreadySo | Refused | Failed)
_files = msgspec.json.Decoder(FileAnswer)
_log = logging.getLogger(__name__)


class Reports:
    """Speaks for one bot. What it says survives any restart of the broker, but not of the bot."""

    def __init__(self, connection: Connection, bot_id: BotId) -> None:
        self._connection = connection
        self._bot_id = bot_id
        self._sender = bot_sender(bot_id)

    async def report(self, report: ReportTask, task: Assignment) -> None:
        """Store how an attempt ended; returns when that is so. Whether it still counts, its owner says."""
        end = await self._with_files(report.end, task)
        command = msgspec.structs.replace(report, end=end)
        await store(self._connection, self._letter(command, "report", task))

    async def claim(self, task: Assignment) -> bool:
        """Whether the bot may begin work that must not be done twice; asks until it knows."""
        claim = self._letter(
            ClaimTask(task_id=task.task_id, bot_id=self._bot_id, token=task.token), "claim", task
        )
        patience = Patience()
        while True:
            outcome = await self._decided(claim, patience.pauses)
            match outcome:
                case Committed() | AlreadySo():
                    return True
                case Refused() | Failed():
                    _log.info("%s is not ours to begin: %s", task.task_id, outcome.detail)
                    return False
                case None:
                    await patience.pause()

    async def input_of(self, task: Assignment) -> str | None:
        """The task's input, fetched if it was too large to come along. NotFound: there is no such file."""
        if task.input_file is None:
            return task.input
        subject = file_subject(self._bot_id, "get")
        data = await self._ask_for_file(subject, task.input_file.sha256.encode(), task)
        if hashlib.sha256(data).hexdigest() != task.input_file.sha256:
            raise NotFound("file_damaged", f"input_file: what came is not {task.input_file.sha256}")
        return data.decode(errors="replace")

    async def _with_files(self, end: End, task: Assignment) -> End:
        match end:
            case Done() | Undone():
                return msgspec.structs.replace(end, output=await self._filed(limited(end.output), task))
            case Stopped():
                return end

    async def _filed(self, output: Output, task: Assignment) -> Output:
        """The output as a report may hold it: what is too long for that lies in a file."""
        if output.size_bytes <= INLINE_BYTES_MAX:
            return output
        data = output.text.encode()
        digest = hashlib.sha256(data).hexdigest()
        try:
            answer = _files.decode(await self._ask_for_file(file_subject(self._bot_id, "put"), data, task))
        except NotFound as error:
            answer = FileAnswer(error=error.detail)
        if answer.error or answer.sha256 != digest:
            _log.warning("the output of %s is cut, its file was not taken: %s", task.task_id, answer.error)
            return msgspec.structs.replace(beginning(output), truncated=True)
        file = FileRef(sha256=digest, size_bytes=output.size_bytes)
        return msgspec.structs.replace(beginning(output), file=file)

    async def _ask_for_file(self, subject: str, data: bytes, task: Assignment) -> bytes:
        headers = {TASK_HEADER: task.task_id, TOKEN_HEADER: str(task.token)}
        patience = Patience()
        while True:
            try:
                answer = await self._connection.request(subject, data, timeout=FILE_WITHIN_S, headers=headers)
            except Unavailable as error:
                _log.info("%s: %s", subject, error)
            else:
                trouble = (answer.headers or {}).get(ERROR_HEADER, "")
                if not trouble:
                    return answer.data
                kind, _, code = trouble.partition(":")
                if kind != "unavailable":
                    raise NotFound(code or kind, answer.data.decode(errors="replace"))
            await patience.pause()

    async def _decided(self, claim: Letter, attempt: int) -> Outcome | None:
        """The owner's outcome; None when it is not known in time. Asked again, the owner remembers the id."""
        heard: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def hear(message: Msg) -> None:
            if not heard.done() and not status_of(message):
                heard.set_result(_outcomes.decode(message.data))

        reply = self._connection.replies.expect(hear)
        try:
            async with asyncio.timeout(DECIDED_WITHIN_S):
                # A message id that a queue has seen is swallowed: each time it is another one.
                await ask(
                    self._connection, claim, message_id=f"{claim.id}:{attempt}", **{REPLY_HEADER: reply}
                )
                return await heard
        except (TimeoutError, Unavailable) as error:
            _log.info("%s is not decided yet: %s", claim.subject, error)
            return None
        finally:
            self._connection.replies.forget(reply)

    def _letter(self, command: ReportTask | ClaimTask, purpose: str, task: Assignment) -> Letter:
        command_id = derived_id(purpose, task.task_id, str(task.token))
        return letter(command, sender=self._sender, command_id=command_id, chain=task.chain)
