"""Performs what is outstanding: each step once at a time, none ending the others, each trouble told once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

from shared.kernel.errors import Unavailable
from shared.runtime.connection import BrokerRefused

T = TypeVar("T")
Key = tuple[str, ...]

TROUBLES_MAX: Final = 1_024  # remembered, so that each is written to the log once
_log = logging.getLogger(__name__)


class Outstanding(Generic[T]):
    """Steps under way, by key. One that failed is only late: whoever finds it outstanding begins it again."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        perform: Callable[[T], Awaitable[None]],
        key_of: Callable[[T], Key],
    ) -> None:
        self._group = group
        self._perform = perform
        self._key_of = key_of
        self._under_way: set[Key] = set()
        self._troubles: dict[Key, str] = {}

    def begin(self, steps: Iterable[T]) -> None:
        """Begin what is not under way."""
        for step in steps:
            key = self._key_of(step)
            if key not in self._under_way:
                self._under_way.add(key)
                self._group.create_task(self._do(step, key))

    async def _do(self, step: T, key: Key) -> None:
        try:
            await self._perform(step)
        except (Unavailable, BrokerRefused) as error:
            if self._is_news(key, error):
                _log.info("%s stays outstanding: %s", " ".join(key), error)
        except Exception as error:  # noqa: BLE001 - one step's unexpected failure must not end the others
            if self._is_news(key, error):
                _log.exception("%s failed", " ".join(key))
        else:
            self._troubles.pop(key, None)
        finally:
            self._under_way.discard(key)

    def _is_news(self, key: Key, error: Exception) -> bool:
        """Whether a step has a trouble it did not have the last time: it may be tried four times a second."""
        told, text = self._troubles.get(key), repr(error)
        if len(self._troubles) >= TROUBLES_MAX:
            self._troubles.clear()
        self._troubles[key] = text
        return told != text
