"""What must be true of messages, looked at from outside: pure functions over what was sent and what was seen.

Each returns what is wrong, nothing when all is well; test_isolation.py shows that each finds it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple


class Sent(NamedTuple):
    """One message, as its sender knows it. `id` is that by which observers tell it from others."""

    id: str
    sender: str
    recipient: str
    priority: str = "P2"


@dataclass(frozen=True)
class Observation:
    """What was sent, in the order in which it was accepted; and what each bot got, in the order it did."""

    sent: Sequence[Sent]
    got: Mapping[str, Sequence[str]]


def lost(seen: Observation) -> list[str]:
    """Messages that never came to their recipient."""
    return [each.id for each in seen.sent if each.id not in seen.got.get(each.recipient, ())]


def doubled(seen: Observation) -> list[str]:
    """Messages that came to somebody more than once."""
    return [each for ids in seen.got.values() for each, times in Counter(ids).items() if times > 1]


def leaked(seen: Observation) -> list[tuple[str, str]]:
    """Who saw what was not for it, or what nobody sent."""
    recipient = {each.id: each.recipient for each in seen.sent}
    return [(bot, each) for bot, ids in seen.got.items() for each in ids if recipient.get(each) != bot]


def disordered(seen: Observation) -> list[tuple[str, str]]:
    """Two messages of one sender, recipient and priority that came the other way round."""
    wrong: list[tuple[str, str]] = []
    for lane in dict.fromkeys(each[1:] for each in seen.sent):
        place = {each.id: number for number, each in enumerate(seen.sent) if each[1:] == lane}
        _, recipient, _ = lane
        came = [each for each in dict.fromkeys(seen.got.get(recipient, ())) if each in place]
        wrong += [(before, after) for before, after in pairwise(came) if place[before] > place[after]]
    return wrong


def faults(seen: Observation) -> dict[str, Sequence[object]]:
    """All that is wrong, by its name."""
    found: dict[str, Sequence[object]] = {
        "lost": lost(seen),
        "doubled": doubled(seen),
        "leaked": leaked(seen),
        "disordered": disordered(seen),
    }
    return {name: wrong for name, wrong in found.items() if wrong}
