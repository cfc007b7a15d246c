"""What the bot hosts said last, and what they were told."""

from datetime import datetime
from typing import Final, NamedTuple

from services.orchestrator.steps import EXTERNAL
from shared.contracts.orchestrator.facts import BotSpec
from shared.contracts.orchestrator.protocol import HostReport
from shared.contracts.orchestrator.queries import HostDoc
from shared.contracts.words import BotId, Page

SILENT_AFTER_S: Final = 5.0
"""A host says each second what runs there."""


class Report(NamedTuple):
    """The newest report of a host, and when it came on both clocks."""

    at: datetime
    mono: float
    running: dict[BotId, int]
    engines: tuple[str, ...]
    cpu_share: float | None = None
    memory_share: float | None = None


class Hosts:
    """The hosts as they described themselves."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self._ordered: dict[tuple[BotId, int], float] = {}

    def hear(self, report: HostReport, at: datetime, mono: float) -> None:
        """A host says what runs there."""
        running = {each.bot_id: each.generation for each in report.running}
        self.reports[report.host_id] = Report(
            at, mono, running, report.engines, report.cpu_share, report.memory_share
        )

    def told(self, mono: float) -> Page[HostDoc]:
        """The hosts by name, and when each was heard last."""
        return Page(
            items=[
                HostDoc(
                    name=name,
                    state="silent" if mono - report.mono > SILENT_AFTER_S else "heard",
                    running=len(report.running),
                    engines=report.engines,
                    last_heard_s=round(max(0.0, mono - report.mono), 3),
                )
                for name, report in sorted(self.reports.items())
            ]
        )

    def ordered(self, bot_id: BotId, generation: int, mono: float) -> None:
        """The host took the order to start it."""
        self._ordered[bot_id, generation] = mono

    def was_ordered(self, bot_id: BotId, generation: int, mono: float, within_s: float) -> bool:
        """Whether it took it not longer ago than that."""
        at = self._ordered.get((bot_id, generation))
        return at is not None and mono - at <= within_s

    def forget(self, bot_id: BotId, generation: int) -> None:
        """The order has done its work, or is void."""
        self._ordered.pop((bot_id, generation), None)

    def home(self, spec: BotSpec) -> str:
        """Which host to tell. A bot that others run gets its credentials from any host that can give them."""
        if spec.host != EXTERNAL:
            return spec.host
        able = sorted(host for host, report in self.reports.items() if EXTERNAL in report.engines)
        return able[0] if able else min(self.reports, default="local")


def is_external(spec: BotSpec) -> bool:
    """Whether somebody else runs it."""
    return EXTERNAL in (spec.engine, spec.host)
