"""The gateway at work: keys to be asked for, the first key, and what goes on record about access."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from services.gateway.access import hash_of
from services.gateway.facts import AccessDenied
from services.gateway.projection import API, Keys
from shared.contracts.gateway import CreateKey, GetKey, KeyDoc, KeyPage, ListKeys, NoteKeyUse
from shared.contracts.words import KeyId
from shared.kernel.codec import encode
from shared.kernel.errors import Unavailable
from shared.kernel.messages import Commit, Refused
from shared.runtime.commands import Send
from shared.runtime.doors import ADMIN
from shared.runtime.ids import derived_id, jittered, new_id
from shared.runtime.store import EventStore

GATEWAY: Final = "gateway"
AGAIN_AFTER_S: Final = 1.0
DENIALS_EVERY_S: Final = 60.0
SOURCES_MAX: Final = 1_000
SECRET_CHARS_MIN: Final = 20
PREFIX_CHARS: Final = 9

_log = logging.getLogger(__name__)


class Gateway:
    """Answers about keys. `seen` waits until the view has a sequence."""

    def __init__(
        self, keys: Keys, *, now: Callable[[], datetime], seen: Callable[[int], Awaitable[None]]
    ) -> None:
        self._keys = keys
        self._now = now
        self._seen = seen

    async def list_keys(self, query: ListKeys) -> KeyPage:
        """A page of keys."""
        await self._seen(query.at_least)
        return self._keys.page(
            at=self._now(), ended=query.ended, cursor=query.cursor, limit=query.limit, name=query.name
        )

    async def get_key(self, query: GetKey) -> KeyDoc:
        """One key."""
        await self._seen(query.at_least)
        return self._keys.get(query.key_id)


async def keep_first_key(file: Path, send: Send) -> None:
    """There shall be an admin key with the secret in this file; asked again until it is decided."""
    secret = (await asyncio.to_thread(file.read_text)).strip()
    if len(secret) < SECRET_CHARS_MIN:
        raise ValueError(f"{file}: a key's secret has at least {SECRET_CHARS_MIN} characters")
    secret_hash = hash_of(secret)
    key_id = KeyId(derived_id("first-key", secret_hash))
    wish = CreateKey(
        key_id=key_id,
        name="first",
        kind=API,
        prefix=secret[:PREFIX_CHARS],
        secret_hash=secret_hash,
        scopes=(ADMIN,),
    )
    while True:
        try:
            outcome = await send(wish, actor=GATEWAY)
        except Unavailable as away:
            _log.warning("the first key is not there yet: %s", away)
            outcome = None
        if isinstance(outcome, Refused):
            _log.critical(
                "the key in %s opens nothing (%s): write another secret there", file, outcome.detail
            )
        if outcome is not None:
            return
        await asyncio.sleep(jittered(AGAIN_AFTER_S))


class Uses:
    """Says, in the background, that keys were used."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._used: asyncio.Queue[KeyId] = asyncio.Queue()

    def note(self, key_id: KeyId) -> None:
        """It was used now."""
        self._used.put_nowait(key_id)

    async def run(self) -> NoReturn:
        """Say what is noted, for ever; what cannot be said now is said at a later use."""
        while True:
            key_id = await self._used.get()
            try:
                await self._send(NoteKeyUse(key_id=key_id), actor=GATEWAY, wait_s=0)
            except Unavailable as away:
                _log.info("the use of key %s was not noted: %s", key_id, away)


class Denials:
    """Counts who was not let in, and records it once a minute: more could fill a log that is never purged."""

    def __init__(self, store: EventStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._counts: dict[tuple[str, str], int] = {}

    def note(self, source: str, code: str) -> None:
        """One more."""
        if (source, code) not in self._counts and len(self._counts) >= SOURCES_MAX:
            source = "others"
        self._counts[source, code] = self._counts.get((source, code), 0) + 1

    async def run(self) -> NoReturn:
        """Record, for ever."""
        while True:
            await asyncio.sleep(DENIALS_EVERY_S)
            try:
                await self.record()
            except Unavailable as away:
                _log.info("denied access is recorded later: %s", away)

    async def record(self) -> None:
        """Record what was counted since the last time."""
        while self._counts:
            (source, code), count = next(iter(self._counts.items()))
            record_id = new_id()
            fact = AccessDenied(source=source, code=code, count=count)
            commit = Commit(
                id=record_id,
                at=self._now(),
                actor=source,
                cause=record_id,
                chain=record_id,
                facts=[msgspec.Raw(encode(fact))],
            )
            await self._store.record(GATEWAY, commit)
            self._counts[source, code] -= count
            if not self._counts[source, code]:
                del self._counts[source, code]
