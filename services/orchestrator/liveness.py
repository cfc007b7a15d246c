"""Who is heard, and which attempts are named: leases on our own monotonic clock, nothing of it stored.

Only seconds count in which we listened: after a take-over, a reconnect or a stall of our own every count
begins again, so that nothing is declared lost because nobody was there to hear it.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.contracts.orchestrator.protocol import Heartbeat
from shared.contracts.words import BOT_IS_SILENT_AFTER, HEARTBEAT_INTERVAL, BotId, TaskId

SILENT_AFTER_S: Final = BOT_IS_SILENT_AFTER.total_seconds()
HEARD_WITHIN_S: Final = 3 * HEARTBEAT_INTERVAL.total_seconds()
"""A bot not heard for so long is given nothing new."""

OUTLIVED_AFTER_S: Final = HEARTBEAT_INTERVAL.total_seconds() / 2
"""A task still named so long after it was first named has outlived its first heartbeat: it has started."""

VANISHED_AFTER_S: Final = 30.0
"""An attempt no longer named, and not reported for so long, is lost.

Longer than a report waits in a full queue.
"""

STALLED_AFTER_S: Final = 1.5
"""Our own ticks further apart than this mean that it was us who did not listen."""

DISTRUST_FIRST_S: Final = 2.0
DISTRUST_MAX_S: Final = 30.0

assert HEARD_WITHIN_S < SILENT_AFTER_S


class Beat(NamedTuple):
    """The newest heartbeat of a bot, and when it was heard."""

    at: float
    heartbeat: Heartbeat


@dataclass(slots=True)
class Lease:
    """What is known of one attempt."""

    task_id: TaskId
    bot_id: BotId
    dispatched_at: float | None = None
    first_named: float | None = None
    last_named: float | None = None

    @property
    def outlived(self) -> bool:
        """Whether the bot went on naming it."""
        if self.first_named is None or self.last_named is None:
            return False
        return self.last_named - self.first_named >= OUTLIVED_AFTER_S


@dataclass(slots=True)
class Distrust:
    """A bot that did not take what it was given gets nothing until then; each time for longer."""

    times: int
    until: float


class Liveness:
    """Counts the seconds since bots were heard and attempts were named."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.leases: dict[int, Lease] = {}
        self._beats: dict[BotId, Beat] = {}
        self._distrust: dict[BotId, Distrust] = {}
        self._ticked = now

    def tick(self, now: float, *, connected: bool) -> None:
        """Time passes; if we were not listening meanwhile, every count begins again."""
        if not connected or now - self._ticked > STALLED_AFTER_S:
            self.restart(now)
        self._ticked = now

    def restart(self, now: float) -> None:
        """Begin every count again."""
        self.since = self._ticked = now

    def hear(self, heartbeat: Heartbeat, now: float) -> None:
        """A bot answers for itself and names what it holds."""
        self._beats[heartbeat.bot_id] = Beat(now, heartbeat)
        for held in heartbeat.held:
            lease = self.leases.get(held.token)
            if lease is None or lease.bot_id != heartbeat.bot_id:
                continue
            if lease.first_named is None:
                lease.first_named = now
                self._distrust.pop(heartbeat.bot_id, None)
            lease.last_named = now

    def beat(self, bot_id: BotId) -> Beat | None:
        """The newest heartbeat, if it was ever heard here."""
        return self._beats.get(bot_id)

    def quiet_s(self, bot_id: BotId, now: float) -> float:
        """For how many seconds of our listening it has not been heard."""
        beat = self._beats.get(bot_id)
        return now - (self.since if beat is None else max(beat.at, self.since))

    def is_silent(self, bot_id: BotId, now: float) -> bool:
        """Whether it has not been heard for too long."""
        return self.quiet_s(bot_id, now) > SILENT_AFTER_S

    def is_ready(self, bot_id: BotId, now: float) -> bool:
        """Whether it may be given something: heard just now, and trusted to take it."""
        beat = self._beats.get(bot_id)
        if beat is None or now - beat.at > HEARD_WITHIN_S:
            return False
        distrust = self._distrust.get(bot_id)
        return distrust is None or distrust.until <= now

    def hold(self, token: int, task_id: TaskId, bot_id: BotId) -> None:
        """An attempt began."""
        self.leases.setdefault(token, Lease(task_id, bot_id))

    def drop(self, token: int) -> None:
        """An attempt is over."""
        self.leases.pop(token, None)

    def dispatched(self, token: int, now: float) -> None:
        """Its assignment is on its way."""
        lease = self.leases.get(token)
        if lease is not None and lease.dispatched_at is None:
            lease.dispatched_at = now

    def named(self, token: int, now: float) -> None:
        """Its report waits to be decided: that is as good as being named in a heartbeat."""
        lease = self.leases.get(token)
        if lease is not None:
            lease.first_named = lease.first_named or now
            lease.last_named = now

    def untaken(self, lease: Lease, within_s: float) -> bool:
        """Whether the bot, heard when it should have taken it, does not name it.

        While it is not heard it may have taken it and be cut off: it needs the time to stop itself.
        """
        beat = self._beats.get(lease.bot_id)
        if beat is None or lease.dispatched_at is None or lease.first_named is not None:
            return False
        return beat.at - max(lease.dispatched_at, self.since) > within_s

    def vanished(self, lease: Lease, now: float) -> bool:
        """Whether the bot, though heard, has long stopped naming it."""
        if lease.last_named is None or self.quiet_s(lease.bot_id, now) > HEARD_WITHIN_S:
            return False
        return now - max(lease.last_named, self.since) > VANISHED_AFTER_S

    def distrust(self, bot_id: BotId, now: float) -> None:
        """It did not take what it was given."""
        times = self._distrust[bot_id].times + 1 if bot_id in self._distrust else 1
        wait = min(DISTRUST_MAX_S, DISTRUST_FIRST_S * 2 ** min(times - 1, 10))
        self._distrust[bot_id] = Distrust(times, now + wait)

    def forget(self, bot_id: BotId) -> None:
        """The bot is no more, or another process takes its place."""
        self._beats.pop(bot_id, None)
        self._distrust.pop(bot_id, None)
