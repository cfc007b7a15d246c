"""Dead letters: what a service could not handle. Every service answers these for its own."""

from datetime import datetime

import msgspec

from shared.kernel.messages import Outcome, Query


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One command that could not be handled. `state`: dead, replayed, dropped. `body` is the stored text."""

    id: str
    service: str
    subject: str
    reason: str
    attempts: int
    at: datetime
    headers: dict[str, str]
    body: str
    state: str = "dead"


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first. `total`: how many there are that were asked for, those that did not fit included."""

    items: list[DeadLetter]
    total: int | None = None


class ListDead(Query[DeadLetters], frozen=True, kw_only=True):
    """Dead letters of the service; `state` None: only `dead` ones.

    `before`: those that follow this moment and id, newest first. `key`: those about one aggregate.
    """

    answer = DeadLetters

    state: str | None = None
    limit: int = 200
    before: tuple[datetime, str] | None = None
    key: str | None = None


class GetDead(Query[DeadLetter], frozen=True, kw_only=True):
    """One dead letter, in whatever state. NotFound: `dead_letter_not_found`."""

    answer = DeadLetter

    id: str


class ReplayDead(Query[Outcome], frozen=True, kw_only=True):
    """Decide it again now, as the sender it came from. NotFound: `dead_letter_not_found`."""

    answer = Outcome

    id: str
    actor: str


class DropDead(Query[DeadLetter], frozen=True, kw_only=True):
    """Give it up: it is kept as dropped until DEAD forgets it."""

    answer = DeadLetter

    id: str
    actor: str
