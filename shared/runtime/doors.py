"""What the routers of the services are given: the seams to the services, and who is calling."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Final

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from shared.contracts.config import Config
from shared.contracts.words import KeyId
from shared.runtime import clock
from shared.runtime.commands import Send
from shared.runtime.live import LiveOutput
from shared.runtime.queries import Ask
from shared.runtime.whereabouts import Whereabouts

ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the key that was shown. `admin` includes every other scope."""

    key_id: KeyId
    name: str
    kind: str
    scopes: frozenset[str]
    rate_per_minute: int | None = None

    @property
    def actor(self) -> str:
        """How the log names the caller."""
        return f"key:{self.key_id}"

    def may(self, scope: str) -> bool:
        """Whether the key has this scope."""
        return scope in self.scopes or ADMIN in self.scopes


class Patience:
    """The long waits of requests: all of them end, without an error, when this process is to leave."""

    def __init__(self) -> None:
        self.over = False
        self.waits: set[asyncio.Timeout] = set()

    def wait(self) -> "Wait":
        """A block that is left early when patience ends."""
        return Wait(self)

    def end(self) -> None:
        """End every wait, now and from now on."""
        self.over = True
        for wait in self.waits:
            wait.reschedule(asyncio.get_running_loop().time())


class Wait:
    """One long wait: `async with` it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._timeout = asyncio.timeout(0 if patience.over else None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._patience.waits.add(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._patience.waits.discard(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            return self._patience.over
        return False


@dataclass(frozen=True, slots=True)
class Doors:
    """The seams to the services, the configuration as it is now, and the services there are."""

    send: Send
    ask: Ask
    whereabouts: Whereabouts
    live: LiveOutput
    config: Callable[[], Config]
    services: Sequence[str]
    now: Callable[[], datetime] = clock.now
    patience: Patience = field(default_factory=Patience)


Seams = NamedDependency[SkipValidation[Doors]]
"""How a route asks for the doors: one dependency, since Litestar starts a task for each beyond the first."""


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Who is calling, as the guard found."""
    principal: Principal = request.scope["auth"]
    return principal
