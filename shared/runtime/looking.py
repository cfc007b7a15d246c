"""How a thing is looked up for a caller: in its owner's view, then wherever else it may be."""

from typing import TypeVar, assert_never

from litestar import Response

from shared.kernel.errors import NotFound
from shared.kernel.messages import Query
from shared.runtime.answers import dead_lettered, pending
from shared.runtime.doors import Doors
from shared.runtime.whereabouts import Dead, Nowhere, OnItsWay

A = TypeVar("A")


async def found(doors: Doors, query: Query[A], aggregate: str, aggregate_id: str) -> A | Response[bytes]:
    """What the view of the query's service answers; 202 while the thing is on its way there."""
    try:
        return await doors.ask(query)
    except NotFound as missing:
        return await on_its_way(doors, query.service, aggregate, aggregate_id, missing)


async def on_its_way(
    doors: Doors, service: str, aggregate: str, aggregate_id: str, missing: NotFound
) -> Response[bytes]:
    """The answer while the view lacks it: 202; else it is said to lie dead, or to be `missing`."""
    match await doors.whereabouts(service, aggregate, aggregate_id):
        case OnItsWay():
            return pending(f"/v1/{aggregate}s/{aggregate_id}", aggregate_id)
        case Dead() as dead:
            raise dead_lettered(dead.letter_id, dead.reason)
        case Nowhere():
            raise missing
        case place:
            assert_never(place)
