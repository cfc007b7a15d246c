"""The one connection of a process to the broker: it comes back for ever, and says when it may not."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from nats.aio.client import Server  # noqa: TID251
from nats.aio.msg import Msg  # noqa: TID251
from nats.aio.subscription import Subscription  # noqa: TID251
from nats.errors import Error as NatsError  # noqa: TID251
from nats.errors import SlowConsumerError  # noqa: TID251

from shared.contracts.naming import inbox_prefix
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.runtime.clock import monotonic
from shared.runtime.ids import jittered
from shared.runtime.replies import Replies
from shared.runtime.settings import Settings
from shared.runtime.straight import Hear, StraightClient

FIRST_CONNECTION_WITHIN_S: Final = 30.0
RECONNECT_FIRST_S: Final = 0.05
RECONNECT_MAX_S: Final = 2.0
CREDENTIALS_REFUSED_FOR_S: Final = 5.0  # so long a broker may refuse us while it starts; then we give up
PENDING_BYTES_MAX: Final = 32 * 1024 * 1024
PING_INTERVAL_S: Final = 10
PINGS_UNANSWERED_MAX: Final = 1
DRAIN_WITHIN_S: Final = 5

STATUS: Final = "Status"
NO_RESPONDERS: Final = "503"

_AUTH_WORDS = ("authorization", "authentication", "user jwt", "revoked", "expired")
_log = logging.getLogger(__name__)


class BrokerRefused(Exception):
    """The broker answered with an error. `code` is JetStream's `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description


class _ApiError(msgspec.Struct):
    err_code: int = 0
    code: int = 0
    description: str = ""


class _ApiAnswer(msgspec.Struct):
    error: _ApiError | None = None


_answers = msgspec.json.Decoder(_ApiAnswer)


def status_of(message: Msg) -> str:
    """The broker's own status line, such as `503`; empty for a message of someone."""
    return message.headers.get(STATUS, "") if message.headers else ""


class Connection:
    """What everything in a process shares to reach the broker.

    `closed` is set when the connection is gone for good: the credentials are refused, or it was closed.
    The process then has to end; whoever started it starts it again.
    """

    def __init__(self, nc: StraightClient, sender: str) -> None:
        self.nc = nc
        self.sender = sender
        self.closed = asyncio.Event()
        self.slow_consumers = 0
        self.permission_violations = 0
        self.replies = Replies(nc)
        self._refused_since: float | None = None
        self._attempts = 0
        self._reconnect_callbacks: list[Callable[[], Awaitable[None]]] = []
        self._disconnect_callbacks: list[Callable[[], None]] = []
        self._calling: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker is there now, as far as we know."""
        return self.nc.is_connected

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Call it after each reconnect, in the order of registration; returns how to undo this."""
        self._reconnect_callbacks.append(callback)
        return lambda: _remove(self._reconnect_callbacks, callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call it at once when the connection breaks; returns how to undo this."""
        self._disconnect_callbacks.append(callback)
        return lambda: _remove(self._disconnect_callbacks, callback)

    def inbox(self) -> str:
        """A fresh subject on which we may be answered."""
        return self.nc.new_inbox()

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Ask and wait for one answer."""
        if not self.connected:
            raise Unavailable("the broker is away")
        answered: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        reply = self.replies.expect(
            lambda message: None if answered.done() else answered.set_result(message),
            lambda: None if answered.done() else answered.set_exception(Unavailable("the connection broke")),
        )
        try:
            async with asyncio.timeout(timeout):
                await self.publish(subject, data, reply, headers)
                message = await answered
        except TimeoutError as error:
            raise Unavailable(f"no answer on {subject} within {timeout:g} s") from error
        finally:
            self.replies.forget(reply)
        if status_of(message) == NO_RESPONDERS:
            raise Unavailable(f"nobody answers on {subject}")
        return message

    async def api(self, subject: str, body: bytes | msgspec.Struct = b"", *, timeout: float = 5.0) -> bytes:
        """Ask JetStream: `$JS.API.<subject>`. Raises BrokerRefused when it answers with an error."""
        data = body if isinstance(body, bytes) else encode(body)
        message = await self.request(f"$JS.API.{subject}", data, timeout=timeout)
        error = _answers.decode(message.data).error
        if error is not None:
            raise BrokerRefused(error.err_code or error.code, error.description)
        return message.data

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str = ""
    ) -> Subscription:
        """Hear what is published; `callback`, a coroutine function, gets one message after another."""
        try:
            return await self.nc.subscribe(subject, queue=queue, cb=callback)
        except NatsError as error:
            raise Unavailable(f"cannot subscribe to {subject}: {error}") from error

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Say it, without knowing who hears it. While the broker is away it is kept, up to a limit."""
        try:
            await self.nc.publish(subject, data, reply, headers)  # type: ignore[arg-type] # it only reads them
        except NatsError as error:
            raise Unavailable(f"cannot publish on {subject}: {error}") from error

    async def hear(self, subject: str, hear: Hear, *, headers: bool = True) -> None:
        """Hear what is published, straight from the socket: `hear` must be quick."""
        try:
            await self.nc.hear(subject, hear, headers=headers)
        except NatsError as error:
            raise Unavailable(f"cannot subscribe to {subject}: {error}") from error

    def say(self, subject: str, data: bytes, reply: str = "") -> None:
        """Publish at once, or not at all while the broker is away."""
        try:
            self.nc.say(subject, data, reply)
        except NatsError as error:
            raise Unavailable(f"cannot publish on {subject}: {error}") from error

    async def close(self, drain: bool = True) -> None:  # noqa: FBT001, FBT002 - one word, at the end of a process
        """Leave; with `drain`, what was received and said before is finished first."""
        if self._calling is not None:
            self._calling.cancel()
        with contextlib.suppress(NatsError, OSError):
            if drain and self.connected:
                await self.nc.drain()
        if not self.nc.is_closed:
            await self.nc.close()
        self.closed.set()

    async def _on_error(self, error: Exception) -> None:
        text = str(error).lower()
        if isinstance(error, SlowConsumerError):
            self.slow_consumers += 1
            _log.error("too slow to hear everything on %s: messages were dropped", error.subject)
        elif "permissions violation" in text:
            self.permission_violations += 1
            _log.error("the broker does not permit it: %s", error)
        elif any(word in text for word in _AUTH_WORDS):
            _log.warning("the broker refuses the credentials of %s: %s", self.sender, error)
            self._note_refusal()
        else:
            _log.info("broker connection: %s %s", type(error).__name__, error)

    def _note_refusal(self) -> None:
        if self._refused_since is None:
            self._refused_since = monotonic()
        elif monotonic() - self._refused_since > CREDENTIALS_REFUSED_FOR_S:
            self.closed.set()

    async def _on_disconnected(self) -> None:
        self.replies.lose()
        for callback in list(self._disconnect_callbacks):
            callback()

    async def _on_reconnected(self) -> None:
        self._attempts = 0
        self._refused_since = None
        if self._calling is not None:
            self._calling.cancel()
        # Its owner is this connection: it is cancelled when the next one begins, and at close.
        self._calling = asyncio.create_task(self._call_back())  # noqa: TID251

    async def _call_back(self) -> None:
        for callback in list(self._reconnect_callbacks):
            try:
                await callback()
            except Unavailable as error:
                _log.warning("after the reconnect: %s", error)
            except Exception:
                _log.exception("after the reconnect: a callback failed; the process must start afresh")
                self.closed.set()
                raise

    async def _on_closed(self) -> None:
        self.closed.set()

    def _next_attempt(self, servers: list[Server], _info: dict[str, object]) -> tuple[Server, float]:
        delay = min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2 ** min(self._attempts, 10))
        self._attempts += 1
        return servers[self._attempts % len(servers)], jittered(delay)


def _remove(
    callbacks: list[Callable[[], Awaitable[None]]] | list[Callable[[], None]], callback: object
) -> None:
    if callback in callbacks:
        callbacks.remove(callback)  # type: ignore[arg-type] # it is in there


async def connect(settings: Settings, *, within: float = FIRST_CONNECTION_WITHIN_S) -> Connection:
    """Connect as the sender of these settings; Unavailable if that does not succeed `within` seconds."""
    nc = StraightClient()
    connection = Connection(nc, settings.sender)
    try:
        async with asyncio.timeout(within):
            await nc.connect(
                settings.nats_url.split(","),
                name=f"{settings.sender} {settings.instance}",
                user_credentials=str(settings.creds) if settings.creds else None,
                inbox_prefix=inbox_prefix(settings.sender),
                error_cb=connection._on_error,  # noqa: SLF001 - connect() makes it
                disconnected_cb=connection._on_disconnected,  # noqa: SLF001
                reconnected_cb=connection._on_reconnected,  # noqa: SLF001
                closed_cb=connection._on_closed,  # noqa: SLF001
                reconnect_to_server_handler=connection._next_attempt,  # noqa: SLF001
                connect_timeout=5,
                reconnect_time_wait=1,
                max_reconnect_attempts=-1,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_UNANSWERED_MAX,
                pending_size=PENDING_BYTES_MAX,
                flush_timeout=10,
                drain_timeout=DRAIN_WITHIN_S,
            )
    except TimeoutError as error:
        why = nc.last_error
        await nc.close()
        raise Unavailable(f"no connection to {settings.nats_url} within {within:g} s: {why}") from error
    await connection.replies.start()
    return connection
