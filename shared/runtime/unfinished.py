"""Stored messages of a command queue in work: what each of their commands has come to so far."""

from collections.abc import Mapping
from typing import Final

from shared.contracts.naming import parse_stored_command
from shared.kernel.errors import Undecodable
from shared.kernel.messages import Failed, Outcome, Refused
from shared.runtime.parcels import Item, items_of
from shared.runtime.pull import Delivery

PUT_BACK_MAX: Final = 2_000  # remembered; of one that is forgotten, counting and recording begin anew


class Stored:
    """One message. `delivery` is its newest delivery: the ack of that one counts.

    Whatever of it has ended is not worked on again when it comes again, since `outcomes` says so.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.sender = parse_stored_command(delivery.subject).sender
        self.flaw = ""
        try:
            self.items, self.is_parcel = items_of(
                self.sender, delivery.subject, delivery.headers, delivery.data
            )
        except Undecodable as undecodable:
            self.flaw = str(undecodable)
            self.items, self.is_parcel = [Item(delivery.subject, delivery.headers, delivery.data)], False
        self.outcomes: list[Outcome | None] = [None] * len(self.items)
        self.failures: dict[int, int] = {}

    @property
    def sequence(self) -> int:
        """Its number in the queue's stream."""
        return self.delivery.sequence

    @property
    def headers(self) -> Mapping[str, str]:
        """What was sent along."""
        return self.delivery.headers

    @property
    def open_places(self) -> list[int]:
        """The commands that have not come to an end."""
        return [place for place, outcome in enumerate(self.outcomes) if outcome is None]

    @property
    def outcome(self) -> Outcome | list[Outcome]:
        """What its sender is told: for a parcel, the outcomes in the order of its commands."""
        ended = [outcome for outcome in self.outcomes if outcome is not None]
        return ended if self.is_parcel else ended[0]

    @property
    def is_on_record(self) -> bool:
        """Whether it left something on record that must not be written twice: its ack must be sure."""
        return any(isinstance(outcome, Refused | Failed) for outcome in self.outcomes)

    @property
    def is_begun(self) -> bool:
        """Whether something is known of it that is to be remembered until it comes again."""
        return bool(self.failures) or any(outcome is not None for outcome in self.outcomes)

    def numbered(self, place: int) -> int | None:
        """A command's number in its parcel; None when it came by itself."""
        return place if self.is_parcel else None


class Unfinished:
    """The messages in work, by sequence, and what is known of those that were put back."""

    def __init__(self) -> None:
        self.in_work: dict[int, Stored] = {}
        self._put_back: dict[int, Stored] = {}

    def take(self, delivery: Delivery) -> Stored | None:
        """The message, if it is not in work already; a redelivery of one that is takes the older's place."""
        working = self.in_work.get(delivery.sequence)
        if working is not None:
            working.delivery = delivery
            return None
        stored = self._put_back.pop(delivery.sequence, None)
        if stored is None or stored.delivery.data != delivery.data:
            stored = Stored(delivery)
        stored.delivery = delivery
        self.in_work[delivery.sequence] = stored
        return stored

    def leave(self, stored: Stored) -> None:
        """It is worked on no more, for now or for good."""
        self.in_work.pop(stored.sequence, None)

    def put_back(self, stored: Stored) -> None:
        """It will come again."""
        if stored.is_begun:
            if len(self._put_back) >= PUT_BACK_MAX:
                self._put_back.pop(next(iter(self._put_back)))
            self._put_back[stored.sequence] = stored

    def clear(self) -> None:
        """Somebody else works on them now."""
        self.in_work.clear()
        self._put_back.clear()
