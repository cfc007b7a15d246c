"""The live configuration: what stands in the `config` bucket, the defaults while it is empty."""

from typing import Final

from shared.contracts.config import Config
from shared.contracts.naming import CONFIG_BUCKET, bucket_subject
from shared.runtime.bucket_watch import BucketWatch
from shared.runtime.connection import Connection

CURRENT: Final = "current"
CONFIG_SUBJECT: Final = bucket_subject(CONFIG_BUCKET, CURRENT)


class ConfigWatch:
    """Holds the newest valid configuration; a broken one is said and not taken."""

    def __init__(self, connection: Connection) -> None:
        self.current = Config()
        self._watch = BucketWatch(connection, CONFIG_BUCKET, Config, self._tell, under=CURRENT)

    async def start(self) -> None:
        """Read what stands there; from then on it is read again at each change and reconnect."""
        await self._watch.run()

    def _tell(self, _: str, config: Config | None) -> None:
        self.current = Config() if config is None else config
