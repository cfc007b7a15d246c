"""Whether a pool should grow or shrink, by what is known of it. Nothing here knows the time or the world."""

from math import ceil, inf
from typing import NamedTuple

from services.orchestrator.pool_commands import Idle
from shared.contracts.orchestrator.pools import Readings
from shared.contracts.scaling import Scaling
from shared.contracts.words import BotId


class Bounds(NamedTuple):
    """What people said of a pool, and how long ago it was scaled; None: never."""

    min: int
    max: int
    enabled: bool
    scaled_s_ago: float | None
    bot_slots: int


class Up(NamedTuple):
    """Grow to so many bots."""

    to: int
    code: str
    reason: str


class Down(NamedTuple):
    """Do without these."""

    bots: tuple[BotId, ...]
    code: str
    reason: str


class Hold(NamedTuple):
    """Stay. `against`: it should have been scaled, but must not."""

    code: str
    reason: str
    against: bool = False


Plan = Up | Down | Hold


def plan(bounds: Bounds, readings: Readings, idle: tuple[Idle, ...], rules: Scaling) -> Plan:
    """What to do. The bounds come first, then the need for more, then what can be spared."""
    if not bounds.enabled:
        return Hold("disabled", "it is switched off")
    size = readings.size
    if size < bounds.min:
        return _host(readings, rules) or Up(
            bounds.min, "below_min", f"{size} bots are fewer than the {bounds.min} that are wanted at least"
        )
    if size > bounds.max:
        return _shed(bounds, readings, idle)
    need = _need(readings, rules)
    if need is not None:
        return _grow(need, bounds, readings, rules)
    return _shrink(bounds, readings, idle, rules)


def _need(now: Readings, rules: Scaling) -> tuple[str, str] | None:
    """Why more bots are needed, for programs and for people."""
    if now.queue >= rules.queue_up:
        lasts = "" if now.clear_s is None else f", which last {now.clear_s:.3g} s"
        return "queue", f"{now.queue} tasks wait{lasts}"
    if now.queue and now.clear_s is not None and now.clear_s > rules.clear_within_s:
        return "time_to_clear", (
            f"{now.queue} tasks wait, which last {now.clear_s:.3g} s, longer than {rules.clear_within_s:g} s"
        )
    if now.load > rules.load_up and now.bot_load > rules.bot_load_up:
        return "load", f"{now.load:.0%} of the slots are taken, {now.bot_load:.0%} of a bot on average"
    return None


def _grow(need: tuple[str, str], bounds: Bounds, now: Readings, rules: Scaling) -> Plan:
    code, reason = need
    if now.size >= bounds.max:
        return Hold("at_max", f"{reason}, but {bounds.max} bots are all that it may have", against=True)
    if now.broken and not now.bots_up:
        reason = f"{reason}, but {now.broken} of its bots cannot run, and more of them would not, either"
        return Hold("broken", reason, against=True)
    held = _host(now, rules)
    if held is not None:
        return held
    pause_s = _pause_s(bounds, rules.up_pause_s)
    if pause_s > 0:
        return Hold("paused", f"{reason}, but it was scaled lately: it may grow in {pause_s:.3g} s")
    return Up(min(bounds.max, _wanted(bounds, now, rules)), code, reason)


def _wanted(bounds: Bounds, now: Readings, rules: Scaling) -> int:
    """As many as clear the queue in time, where that is known; else twice as many. At least one more."""
    if now.mean_run_s is None:
        wanted = 2 * now.size
    else:
        wanted = ceil((now.queue + now.held) * now.mean_run_s / (rules.clear_within_s * bounds.bot_slots))
    useful = now.size + ceil(now.queue / bounds.bot_slots)
    return max(now.size + 1, min(wanted, useful))


def _shrink(bounds: Bounds, now: Readings, idle: tuple[Idle, ...], rules: Scaling) -> Plan:
    if now.size <= bounds.min or now.queue or not idle:
        return Hold("enough", "nothing calls for more bots, and none can be spared")
    oldest = idle[0]
    if now.load > rules.load_down or oldest.idle_s < rules.idle_s:
        return Hold(
            "enough",
            f"none can be spared: {now.load:.0%} of the slots are taken, and the longest idle bot has had "
            f"nothing for {oldest.idle_s:.3g} s",
        )
    left = now.slots - bounds.bot_slots
    if now.held and now.held > left * rules.load_up:
        return Hold("enough", "with one bot fewer it would have to grow again")
    pause_s = _pause_s(bounds, rules.down_pause_s)
    if pause_s > 0:
        return Hold(
            "paused",
            f"{oldest.bot_id} can be spared, but it was scaled lately: it may shrink in {pause_s:.3g} s",
        )
    return Down((oldest.bot_id,), "idle", f"{oldest.bot_id} has had nothing for {oldest.idle_s:.3g} s")


def _shed(bounds: Bounds, now: Readings, idle: tuple[Idle, ...]) -> Plan:
    """People want fewer: whoever is idle goes at once, the others when they are."""
    over = now.size - bounds.max
    reason = f"{now.size} bots are more than the {bounds.max} that it may have"
    if not idle:
        return Hold("all_busy", f"{reason}, but none that it launched is idle", against=True)
    return Down(tuple(each.bot_id for each in idle[:over]), "above_max", reason)


def _host(now: Readings, rules: Scaling) -> Hold | None:
    """Why no bot may be added where it would run."""
    if not now.host_heard:
        return Hold("host_silent", f"the host {now.host} is not heard", against=True)
    for name, share, most in (
        ("memory", now.memory_share, rules.memory_max),
        ("cpu", now.cpu_share, rules.cpu_max),
    ):
        if share is None:
            return Hold(f"{name}_unknown", f"the host {now.host} does not say its {name}", against=True)
        if share > most:
            reason = f"the host {now.host} uses {share:.0%} of its {name}, and {most:.0%} is the most"
            return Hold(f"host_{name}", reason, against=True)
    return None


def _pause_s(bounds: Bounds, pause_s: float) -> float:
    return pause_s - (inf if bounds.scaled_s_ago is None else bounds.scaled_s_ago)
