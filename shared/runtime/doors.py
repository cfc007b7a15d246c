"""What the routers of the services are given: the seams to the services, and who is calling."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from litestar import Request
from litestar.params import Dependency

from shared.contracts.words import KeyId
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
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """A block that is left early when patience ends."""
        try:
            async with asyncio.timeout(0 if self.over else None) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if not self.over:
                raise

    def end(self) -> None:
        """End every wait, now and from now on."""
        self.over = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class Doors:
    """The seams to the services. `answer_wait_s`: how long a request waits for a decision before 202."""

    send: Send
    ask: Ask
    whereabouts: Whereabouts
    live: LiveOutput
    answer_wait_s: Callable[[], float]
    patience: Patience = field(default_factory=Patience)


Seams = Annotated[Doors, Dependency(skip_validation=True)]
"""How a route asks for the doors: one dependency, since Litestar starts a task for each beyond the first."""


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Who is calling, as the guard found."""
    principal: Principal = request.scope["auth"]
    return principal
