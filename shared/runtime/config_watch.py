"""The live configuration: what stands in the `config` bucket, the defaults while it is empty."""

import logging
from typing import Final

import msgspec
from nats.aio.msg import Msg  # noqa: TID251

from shared.contracts.config import Config
from shared.contracts.naming import CONFIG_BUCKET, bucket_stream
from shared.kernel.errors import Unavailable
from shared.runtime.connection import Connection
from shared.runtime.directget import peek

CONFIG_SUBJECT: Final = f"$KV.{CONFIG_BUCKET}.current"
_CONFIG = msgspec.json.Decoder(Config)
_log = logging.getLogger(__name__)


class ConfigWatch:
    """Holds the newest valid configuration; a broken one is said and not taken."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.current = Config()

    async def start(self) -> None:
        """Read what stands there, and again at each change and reconnect."""
        await self._connection.subscribe(CONFIG_SUBJECT, self._on_change)
        self._connection.on_reconnect(self._read)
        await self._read()

    async def _on_change(self, _: Msg) -> None:
        # What was published may have been refused by the bucket: only what is stored counts.
        await self._read()

    async def _read(self) -> None:
        try:
            stored = await peek(self._connection, bucket_stream(CONFIG_BUCKET), CONFIG_SUBJECT)
            self.current = _CONFIG.decode(stored.data) if stored is not None and stored.data else Config()
        except msgspec.MsgspecError as error:
            _log.error("the stored configuration is not valid and is not taken: %s", error)
        except Unavailable as away:
            _log.warning("the configuration could not be read: %s", away)
