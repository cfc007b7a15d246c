"""Where bots and hosts come in over the broker: heartbeats, reports, requests for files and children."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from services.orchestrator.board import Board
from services.orchestrator.decider.task_state import Held
from services.orchestrator.joining import Joining
from services.orchestrator.service import Orchestrator
from shared.contracts.naming import partition_of
from shared.contracts.orchestrator.protocol import ChildrenAsked, FileAnswer, Heartbeat, HostReport
from shared.contracts.words import OUTPUT_BYTES_MAX, BotId, TaskId
from shared.kernel.codec import encode
from shared.kernel.errors import NotFound, Rejected, Unavailable
from shared.runtime.connection import Connection
from shared.runtime.files import FileStore
from shared.runtime.queries import ERROR_HEADER

FILES_AT_ONCE_MAX: Final = 8
JOINS_AT_ONCE_MAX: Final = 4_096  # long waits included
TASK_HEADER: Final = "Hive-Task"
TOKEN_HEADER: Final = "Hive-Token"  # noqa: S105 - a fencing token is no secret

_heartbeats = msgspec.json.Decoder(Heartbeat)
_questions = msgspec.json.Decoder(ChildrenAsked)
_reports = msgspec.json.Decoder(HostReport)
_log = logging.getLogger(__name__)


class Message(Protocol):
    """What came over the broker."""

    subject: str
    reply: str
    data: bytes

    @property
    def headers(self) -> dict[str, str] | None:
        """Its headers, if it has any."""
        ...


class Doors:
    """Reads what came, and answers."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        board: Board,
        files: FileStore,
        joining: Joining,
        connection: Connection,
    ) -> None:
        self._orchestrator = orchestrator
        self._board = board
        self._files = files
        self._connection = connection
        self._joining = joining
        self._file_places = asyncio.Semaphore(FILES_AT_ONCE_MAX)
        self._join_places = asyncio.Semaphore(JOINS_AT_ONCE_MAX)

    def on_heartbeat(self, message: Message) -> None:
        """On `hb.<bot>`."""
        try:
            heartbeat = _heartbeats.decode(message.data)
        except msgspec.DecodeError as error:
            _log.warning("a heartbeat on %s cannot be read: %s", message.subject, error)
            return
        if heartbeat.bot_id != _sender(message.subject):
            _log.warning("%s on %s speaks for another bot", heartbeat.bot_id, message.subject)
            return
        answer = self._orchestrator.hear(heartbeat)
        if answer is not None and message.reply:
            with contextlib.suppress(Unavailable):  # unanswered, it beats again
                self._connection.say(message.reply, encode(answer))

    async def on_host_report(self, message: Message) -> None:
        """On `host.<host>.report`."""
        try:
            report = _reports.decode(message.data)
        except msgspec.DecodeError as error:
            _log.warning("a report on %s cannot be read: %s", message.subject, error)
            return
        if report.host_id == _sender(message.subject):
            self._orchestrator.hear_host(report)

    async def on_file(self, message: Message) -> None:
        """On `file.<bot>.get` and `file.<bot>.put`; who asks again meets the same bytes."""
        if self._is_ours(message):
            self._orchestrator.spawn(self._serve(message, self._file, self._file_places))

    async def on_children(self, message: Message) -> None:
        """On `children.<bot>`; it may take as long as the question says."""
        if self._is_ours(message):
            self._orchestrator.spawn(self._serve(message, self._children, self._join_places))

    def _is_ours(self, message: Message) -> bool:
        return partition_of(_sender(message.subject)) in self._board.owned and bool(message.reply)

    async def _serve(
        self, message: Message, answer: Callable[[Message], Awaitable[bytes]], places: asyncio.Semaphore
    ) -> None:
        async with places:
            try:
                data, error = await answer(message), ""
            except NotFound as missing:
                data, error = missing.detail.encode(), f"notfound:{missing.code}"
            except Rejected as rejected:
                data, error = rejected.detail.encode(), f"rejected:{rejected.code}"
            except Unavailable as away:
                data, error = str(away).encode(), "unavailable:unavailable"
        try:
            await self._connection.publish(
                message.reply, data, headers={ERROR_HEADER: error} if error else None
            )
        except Unavailable as away:
            _log.info("%s could not be answered: %s", message.subject, away)

    async def _children(self, message: Message) -> bytes:
        try:
            asked = _questions.decode(message.data)
        except msgspec.DecodeError as error:
            raise Rejected("bad_question", str(error)) from error
        return encode(await self._joining.tell(BotId(_sender(message.subject)), asked))

    async def _file(self, message: Message) -> bytes:
        bot_id, verb = BotId(_sender(message.subject)), message.subject.rpartition(".")[2]
        task = self._held_task(bot_id, message.headers or {})
        if verb == "put":
            if len(message.data) > OUTPUT_BYTES_MAX:
                raise Rejected("file_too_large", f"at most {OUTPUT_BYTES_MAX} bytes")
            return encode(FileAnswer(sha256=(await self._files.put(message.data)).sha256))
        wanted = message.data.decode(errors="replace")
        if task.order.input_file is None or task.order.input_file.sha256 != wanted:
            raise NotFound("file_not_found", f"{wanted} is not the input of the task")
        data = await self._files.get(wanted)
        if data is None:
            raise NotFound("file_not_found", f"there is no file {wanted}")
        return data

    def _held_task(self, bot_id: BotId, headers: dict[str, str]) -> Held:
        """The task for which the bot may ask; only who holds it by its current token may."""
        task = self._board.task(TaskId(headers.get(TASK_HEADER, "")))
        token = headers.get(TOKEN_HEADER, "")
        if isinstance(task, Held) and task.bot_id == bot_id and str(task.token) == token:
            return task
        if token.isdecimal() and int(token) > self._board.reached:
            raise Unavailable("the view has not seen this token yet")
        raise Rejected("stale_token", f"attempt {token} is not {bot_id}'s")


def _sender(subject: str) -> str:
    """The bot or host in the middle of a subject: the broker lets nobody use another's."""
    return subject.split(".")[1]
