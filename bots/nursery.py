"""Where bots' processes come from: a zygote of their own, started with the first bot that is wanted.

A host without bots does without its 20 MB. The first launch waits for its imports, once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Protocol

from shared.kernel.errors import Unavailable
from shared.runtime.zygote import Exit, Zygote


class Forks(Protocol):
    """What a host needs of where processes come from."""

    async def fork(
        self,
        name: str,
        target: str,
        *,
        env: Mapping[str, str],
        stdout: Path,
        cwd: Path | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> int:
        """Start `module:function` in a new process; its id."""
        ...

    def exits(self) -> AsyncIterator[Exit]:
        """Each child's end, as it happens; ends itself when there can be no more."""
        ...


class Nursery:
    """A zygote that is not there until something is to be forked."""

    def __init__(self, start: Callable[[], Zygote]) -> None:
        self._start = start
        self._zygote: Zygote | None = None
        self._closed = False
        self._wanted = asyncio.Event()

    async def fork(
        self,
        name: str,
        target: str,
        *,
        env: Mapping[str, str],
        stdout: Path,
        cwd: Path | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> int:
        """Start `module:function` in a new process; its id."""
        if self._closed:
            raise Unavailable("nothing is started any more")
        if self._zygote is None:
            self._zygote = self._start()
            self._wanted.set()
        return await self._zygote.fork(name, target, env=env, stdout=stdout, cwd=cwd, limits=limits)

    async def exits(self) -> AsyncIterator[Exit]:
        """Each child's end, as it happens; ends itself when the zygote is gone."""
        await self._wanted.wait()
        assert self._zygote is not None
        async for end in self._zygote.exits():
            yield end

    def close(self) -> None:
        """The zygote ends its children, then itself."""
        self._closed = True
        if self._zygote is not None:
            self._zygote.close()
