"""Uvicorn's WebSocket protocol, with an end to every wait: who does not read is cut off in the end."""

import logging
import socket
from asyncio.transports import BaseTransport
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

FRAME_BYTES_MAX: Final = 131_072  # a text of 10,000 characters, each of them escaped as two
PING_EVERY_S: Final = 20.0
PONG_WITHIN_S: Final = 20.0
CLOSED_WITHIN_S: Final = 5.0  # the client's side of the closing; then the connection is cut off
UNREAD_BYTES_MAX: Final = 65_536  # on our side; above that, whoever sends has to wait
KERNEL_BYTES: Final = 131_072

_quiet = logging.getLogger(f"{__name__}.quiet")
_quiet.setLevel(logging.CRITICAL)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Closing reaches a client that has stopped reading, too, if it reads within CLOSED_WITHIN_S."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = CLOSED_WITHIN_S
        self.logger = (
            _quiet  # a client's mistakes are told to the client; ours are logged where they are made
        )

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what may lie on its way to the client."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        if (raw := self.transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)

    async def send(self, message: Any) -> None:
        """As it is, but a close frame goes out behind what was not read, without waiting for that."""
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self._cut_off_soon()

    def keepalive_timeout(self) -> None:
        """No answer to a ping."""
        super().keepalive_timeout()
        self._cut_off_soon()

    def handle_parser_exception(self) -> None:
        """What came is no WebSocket frame, or too large a one."""
        super().handle_parser_exception()
        self._cut_off_soon()

    def _cut_off_soon(self) -> None:
        """A transport that is only closed waits for ever for a client to read what lies there."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        if not self.disconnected:
            self.close_timer = self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)
