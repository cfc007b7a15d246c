"""The broker users of a host's bots: a file of credentials each, in a folder that only its owner can read."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from shared.contracts.words import BotId
from shared.runtime import clock, private
from shared.runtime.credentials import BOT_USER_LIFETIME, BotSigner

USED_FOR: Final = BOT_USER_LIFETIME / 2
"""A process that starts later than this gets a new user; the old one may still be in use elsewhere."""

assert timedelta(days=7) < USED_FOR


class Minted(msgspec.Struct, frozen=True):
    """The users made for a bot, oldest first, and when the last was made. `account`: of which hive."""

    account: str
    keys: tuple[str, ...]
    made_at: float


class Users:
    """Makes, finds and forgets the users of bots. `folder` holds one folder for each bot."""

    def __init__(self, folder: Path, signer: BotSigner) -> None:
        self._folder = folder
        self._signer = signer

    def creds(self, bot_id: BotId) -> Path:
        """The bot's credentials: made if there are none, or if they are old or of another hive."""
        path = self._folder / bot_id / "bot.creds"
        minted = self._minted(bot_id)
        now = clock.now().timestamp()
        if minted is not None and path.exists() and now - minted.made_at < USED_FOR.total_seconds():
            return path
        text, key = self._signer.mint(bot_id)
        private.make_folder(self._folder)
        private.make_folder(path.parent)
        keys = (*(minted.keys if minted is not None else ()), key)
        record = Minted(self._signer.account, keys, now)
        # First the record: a user that is made and not noted could never be revoked.
        private.write(self._record(bot_id), msgspec.json.encode(record).decode())
        private.write(path, text)
        return path

    def keys(self, bot_id: BotId) -> tuple[str, ...]:
        """The public keys by which all of the bot's users can be revoked."""
        minted = self._minted(bot_id)
        return () if minted is None else minted.keys

    def forget(self, bot_id: BotId) -> None:
        """Delete the bot's credentials. What it worked on, its workspace, stays."""
        shutil.rmtree(self._folder / bot_id, ignore_errors=True)

    def _record(self, bot_id: BotId) -> Path:
        return self._folder / bot_id / "users.json"

    def _minted(self, bot_id: BotId) -> Minted | None:
        try:
            minted = msgspec.json.decode(self._record(bot_id).read_bytes(), type=Minted)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return minted if minted.account == self._signer.account else None
