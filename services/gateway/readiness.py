"""Whether requests can be served now, and by whom: the broker is there, and each service answers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shared.contracts.dead import GetDead
from shared.kernel.errors import NotFound, Unavailable
from shared.runtime.queries import Ask

ANSWER_WITHIN_S: Final = 1.0
ASKED_EVERY_S: Final = 1.0  # whoever may ask us without a key must not make us ask without end
NOBODYS: Final = "readyz"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Without the broker nothing can be done; what is asked of an absent service is stored meanwhile."""

    ready: bool
    problems: list[str]
    unanswering: list[str]


class Ready:
    """Asks each service, when somebody wants to know and nobody wanted to a moment ago."""

    def __init__(
        self,
        ask: Ask,
        services: Sequence[str],
        *,
        connected: Callable[[], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._services = services
        self._connected = connected
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._silent: list[str] = []

    async def __call__(self) -> Readiness:
        """As it is now, or was a second ago at most."""
        if not self._connected():
            away = "the broker is away: nothing can be stored, and no service asked"
            return Readiness(ready=False, problems=[away], unanswering=[])
        async with self._asking:
            if self._monotonic() - self._asked_at >= ASKED_EVERY_S:
                await self._look()
        return Readiness(ready=True, problems=[], unanswering=self._silent)

    async def _look(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            asked = [(service, tasks.create_task(self._answers(service))) for service in self._services]
        self._silent = [service for service, answer in asked if not answer.result()]
        self._asked_at = self._monotonic()

    async def _answers(self, service: str) -> bool:
        try:
            await self._ask(GetDead(id=NOBODYS), service=service, timeout_s=ANSWER_WITHIN_S)
        except NotFound:
            return True
        except Unavailable:
            return False
        return True
