"""The WebSocket of a bot as the command sees it: a server that answers, and does what a test wants of it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import MessageId, MessageKind, Party, Priority
from tests.cli.fake_hive import NOON, FakeHive, message, page, problem

ME = Party("@me")
Answer = Callable[["FakeChat", ServerConnection, MessageDoc], None]


class FakeChat:
    """A conversation of @me with alpha. `answer` is what the bot does with a message; it echoes."""

    def __init__(self) -> None:
        self.hive = FakeHive()
        self.hive.on("GET /v1/conversations/@me/alpha", self._history)
        self.said: list[MessageDoc] = []
        self.refs: dict[str, MessageDoc] = {}
        self.heard: list[dict[str, Any]] = []
        self.afters: list[int] = []
        self.answer: Answer = echo
        self.refuse: httpx.Response | None = None
        self.url = ""
        self._changed = threading.Condition(threading.RLock())
        self._server: Server | None = None
        self._open: list[ServerConnection] = []

    def add(self, sender: str, content: str, **more: Any) -> MessageDoc:
        """A message of the conversation."""
        number = len(self.said) + 1
        to = "alpha" if sender == ME else ME
        given = {
            "kind": MessageKind.CHAT,
            "priority": Priority.P2,
            "state": "delivered",
            "sent_at": NOON,
            **more,
        }
        new = message(
            f"m{number}", sequence=number, sender=Party(sender), recipient=Party(to), content=content, **given
        )
        self.said.append(new)
        return new

    def drop(self) -> None:
        """Every connection breaks, as when a gateway is killed."""
        for connection in self._open:
            connection.socket.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self, code: int, reason: str) -> None:
        """Every connection is ended with a word."""
        for connection in self._open:
            connection.close(code, reason)
        self._open.clear()

    def tell(self, frame: dict[str, Any]) -> None:
        """A frame to everybody."""
        for connection in self._open:
            connection.send(msgspec.json.encode(frame).decode())

    def _history(self, request: httpx.Request) -> httpx.Response:
        limit = int(request.url.params["limit"])
        return page(*reversed(self.said[-limit:]))

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        answer = self.refuse
        if not upgrade:
            answer = self.hive(httpx.Request("GET", f"http://hive.test{request.path}"))
        elif request.headers.get("Authorization") != "Bearer hive_test":
            answer = problem(401, "key_unknown", "nobody knows this key")
        if answer is None:
            return None
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(answer.content))})
        return Response(answer.status_code, "Answer", headers, answer.content)

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        after = int(parse_qs(urlsplit(connection.request.path).query)["after"][0])
        hello = {"type": "hello", "bot": "alpha", "party": ME, "after": after}
        connection.send(msgspec.json.encode(hello).decode())
        if after > 10**17:
            connection.recv()
            return
        with self._changed:
            self.afters.append(after)
            self._open.append(connection)
            self._changed.notify_all()
            for said in [said for said in self.said if said.sequence > after]:
                connection.send(_text(said))
        for data in connection:
            frame = msgspec.json.decode(data)
            with self._changed:
                self.heard.append(frame)
                self._changed.notify_all()
                self._obey(connection, frame)

    def _obey(self, connection: ServerConnection, frame: dict[str, Any]) -> None:
        if frame["type"] == "ack":
            return
        if frame["ref"] in self.refs:
            accept(self, connection, self.refs[frame["ref"]])
        else:
            own = self.refs[frame["ref"]] = self.add(ME, frame["content"])
            self.answer(self, connection, own)

    def until_heard(self, frame: dict[str, Any]) -> bool:
        """Wait until the command has said this."""
        with self._changed:
            return self._changed.wait_for(lambda: frame in self.heard, 10)

    def until_open(self) -> None:
        """Wait until somebody listens."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._open, 10)

    def say(self, content: str, **more: Any) -> None:
        """The bot says something, to everybody who listens."""
        self.show(self.add("alpha", content, **more))

    def show(self, said: MessageDoc) -> None:
        """A message, to everybody who listens."""
        for connection in self._open:
            with contextlib.suppress(ConnectionClosed):
                connection.send(_text(said))

    def _run(self, connection: ServerConnection) -> None:
        try:
            self._serve(connection)
        except (ConnectionClosed, OSError):
            return

    @contextmanager
    def serving(self) -> Iterator[str]:
        with serve(self._run, "127.0.0.1", 0, process_request=self._http) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
            yield self.url
            self.close(1001, "over")


def _text(said: MessageDoc) -> str:
    frame = {"type": "text", "sequence": said.sequence, "message": said}
    return msgspec.json.encode(frame).decode()


def accept(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
    ref = next(ref for ref, each in chat.refs.items() if each.id == own.id)
    frame = {"type": "accepted", "ref": ref, "id": own.id, "sequence": own.sequence}
    with contextlib.suppress(ConnectionClosed):
        connection.send(msgspec.json.encode(frame).decode())


def echo(chat: FakeChat, connection: ServerConnection, own: MessageDoc) -> None:
    accept(chat, connection, own)
    chat.show(own)
    chat.say(own.content.upper(), in_reply_to=own.id)


def live(own: MessageDoc, index: int, text: str) -> str:
    frame = {
        "type": "live",
        "message_id": own.id,
        "sequence": 100 + index,
        "index": index,
        "text": text,
        "channel": "out",
    }
    return msgspec.json.encode(frame).decode()


def ended(message_id: MessageId, state: str, reason: str) -> str:
    return msgspec.json.encode(
        {"type": "state", "message_id": message_id, "state": state, "reason": reason}
    ).decode()
