"""The broker's client without detours: heard straight from the parser, written straight to the socket.

nats-py gives each subscription a task, and another one to all that is written: turns of the loop for every
message. For a bot that only beats, and for who answers two hundred of them, that was half of the work.
"""

from collections.abc import Callable

from nats.aio.client import Client  # noqa: TID251
from nats.aio.msg import Msg  # noqa: TID251
from nats.errors import ConnectionClosedError  # noqa: TID251
from nats.protocol.command import pub_cmd  # noqa: TID251

Hear = Callable[[Msg], None]


class StraightClient(Client):
    """A client that may be asked for the short way; everything else is as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._straight: dict[int, tuple[Hear, bool]] = {}

    async def hear(self, subject: str, hear: Hear, *, headers: bool) -> None:
        """Hand each message to `hear` as it is read, which must be quick; headers only if it reads them."""

        async def in_turn(message: Msg) -> None:
            hear(message)

        subscription = await self.subscribe(subject, cb=in_turn)
        self._straight[subscription._id] = (hear, headers)  # noqa: SLF001 - the parser names it so

    def say(self, subject: str, data: bytes, reply: str = "") -> None:
        """Write it now, after what waits to be written; it is not kept for a broker that is away."""
        if not self.is_connected or self.is_draining_pubs or self._transport is None:
            raise ConnectionClosedError
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(data)
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        try:
            self._transport.writelines([*waiting, pub_cmd(subject, reply, data)])
        except (OSError, RuntimeError) as error:  # it has broken, and nobody has noticed yet
            raise ConnectionClosedError from error

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        straight = self._straight.get(sid)
        if straight is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        hear, with_headers = straight
        read = await self._process_headers(headers) if headers and with_headers else None
        try:
            hear(self._build_message(sid, subject, reply, data, read))
        except Exception as error:  # noqa: BLE001 - told as nats-py tells it; the reading must go on
            await self._error_cb(error)
