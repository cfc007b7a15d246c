"""The connection of a chat: opened again whenever it breaks, from where it broke off, until it is closed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cli import frames
from cli.failure import Exit, Failure
from cli.problem import from_problem, read
from shared.runtime import clock
from shared.runtime.ids import jittered

AGAIN_FIRST_S: Final = 0.25
AGAIN_MAX_S: Final = 5.0
OPENED_WITHIN_S: Final = 10.0
FRAME_BYTES_MAX: Final = 1_048_576
STEADY_AFTER_S: Final = 10.0
END_OF_TIME: Final = 10**18 - 1

NONSENSE: Final = 1008
NO_MORE_ACCESS: Final = 4401


class Wire:
    """Hears in a thread of its own. `where` says the address and the key, each time anew: a hive may move.

    `opened`: there is a connection again. `lost`: another try has failed.
    """

    def __init__(
        self,
        bot: str,
        *,
        where: Callable[[], tuple[str, str]],
        after: Callable[[], int],
        heard: Callable[[frames.Frame], None],
        opened: Callable[[], None],
        lost: Callable[[], None],
        patience_s: float,
    ) -> None:
        self._bot = bot
        self._where = where
        self._after = after
        self._heard = heard
        self._opened = opened
        self._lost = lost
        self._patience_s = patience_s
        self._connection: ClientConnection | None = None
        self._stack = ExitStack()
        self._closing = threading.Event()
        self._lost_at: float | None = None
        self.failure: Failure | None = None

    def open(self) -> None:
        """Connect for the first time; Failure when that cannot be."""
        self._connection = self._connect()

    def send(self, text: str) -> bool:
        """Send a frame; False while there is no connection."""
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.send(text)
        except (ConnectionClosed, OSError):
            return False
        return True

    def run(self) -> None:
        """Hear, until closed or until it is over: then `failure` says why."""
        again_s = AGAIN_FIRST_S
        while not self._closing.is_set():
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    self._opened()
                self._lost_at, began = None, clock.monotonic()
                self._hear(self._connection)
                if clock.monotonic() - began > STEADY_AFTER_S:
                    again_s = AGAIN_FIRST_S
            except Failure as failure:
                if self._is_over(failure):
                    self.failure = failure
                    return
                self._lost()
            self._lost_at = self._lost_at or clock.monotonic()
            self._closing.wait(jittered(again_s))
            again_s = min(2 * again_s, AGAIN_MAX_S)

    def close(self) -> None:
        """Hear no more."""
        self._closing.set()
        if self._connection is not None:
            self._connection.close()

    def _hear(self, connection: ClientConnection) -> None:
        """Until it breaks."""
        try:
            for data in connection:
                if (frame := frames.read(data)) is not None:
                    self._heard(frame)
            why = connection.close_reason or ""
            code = connection.close_code
        except ConnectionClosed as closed:
            code = None if closed.rcvd is None else closed.rcvd.code
            why = "" if closed.rcvd is None else closed.rcvd.reason
        except OSError:
            code, why = None, ""
        finally:
            self._connection = None
            self._stack.close()
        if code in {NONSENSE, NO_MORE_ACCESS}:
            raise Failure(
                "The hive has ended the conversation.",
                exit_code=Exit.REFUSED if code == NO_MORE_ACCESS else Exit.FAILED,
                code="no_more_access" if code == NO_MORE_ACCESS else "chat_refused",
                why=why,
                todo="`hive keys` shows what your key may do."
                if code == NO_MORE_ACCESS
                else "`hive logs gateway`.",
            )

    def _connect(self) -> ClientConnection:
        self._stack.close()
        return self._stack.enter_context(_connected(self._bot, self._where, self._after()))

    def _is_over(self, failure: Failure) -> bool:
        """Whether another try would end alike, or it was tried for long enough."""
        if failure.exit_code != Exit.UNAVAILABLE:
            return True
        return self._lost_at is not None and clock.monotonic() - self._lost_at > self._patience_s


def who_we_are(bot: str, where: Callable[[], tuple[str, str]]) -> str:
    """Our name in conversations, as the hive greets us; a Failure if we may not talk to this bot."""
    with _connected(bot, where, END_OF_TIME) as connection:
        try:
            hello = frames.read(connection.recv(OPENED_WITHIN_S))
        except (TimeoutError, ConnectionClosed, OSError) as error:
            raise _away(where()[0], error) from error
    if not isinstance(hello, frames.Hello):
        raise Failure(
            "The hive greets in a way that is not understood.",
            exit_code=Exit.FAILED,
            code="not_understood",
            why="the first frame is not `hello`.",
            todo="is it a hive of this version? `hive doctor` compares.",
        )
    return hello.party


@contextmanager
def _connected(bot: str, where: Callable[[], tuple[str, str]], after: int) -> Iterator[ClientConnection]:
    url, key = where()
    address = f"ws{url.removeprefix('http')}/v1/bots/{quote(bot, safe='')}/ws?after={after}"
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(
                connect(
                    address,
                    additional_headers={"Authorization": f"Bearer {key}"},
                    user_agent_header="hive-cli",
                    open_timeout=OPENED_WITHIN_S,
                    max_size=FRAME_BYTES_MAX,
                    proxy=None,
                )
            )
        except InvalidStatus as refused:
            answer = refused.response
            told = read(bytes(answer.body or b""))
            raise from_problem(told, answer.status_code, answer.reason_phrase) from refused
        except (InvalidHandshake, OSError, ConnectionClosed) as error:
            raise _away(url, error) from error
        yield connection


def _away(url: str, error: Exception) -> Failure:
    return Failure(
        f"No hive answers at {url}.",
        exit_code=Exit.UNAVAILABLE,
        code="not_running",
        why=str(error) or type(error).__name__,
        todo="`hive up` starts it; `hive doctor` says what is wrong.",
    )
