"""Broadcasts over HTTP: one command, a message for each bot, and what became of them."""

from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath

from services.messenger.api.messages import NOT_SHOWN_YET, PENDING, READ, WRITE
from services.messenger.api.parties import check_may_see, speaker
from services.messenger.api.requests import NewBroadcast
from shared.contracts.messenger.queries import DeliverySummary, GetBroadcast
from shared.contracts.words import is_name
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import AlreadySo
from shared.runtime.answers import REPLAYED, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Seams, principal_of
from shared.runtime.ids import derived_id, new_id
from shared.runtime.looking import found
from shared.runtime.openapi import AT_LEAST, IDEMPOTENCY_KEY, Operation, Says
from shared.runtime.parameters import at_least, idempotency_key

BROADCAST_BYTES_MAX: Final = 150_000
NEW_BROADCAST: Final = Body(NewBroadcast, bytes_max=BROADCAST_BYTES_MAX)


@post(
    "/broadcasts",
    says=Operation(
        summary="Send a message to many bots",
        scope=WRITE,
        body=NEW_BROADCAST,
        headers=(IDEMPOTENCY_KEY,),
        answers={
            201: Says(
                meaning="It is accepted; its messages follow, and the summary counts them.",
                form=DeliverySummary,
                headers=("Location", "Hive-Version", REPLAYED),
            ),
            202: PENDING,
        },
        problems=(409, 422),
    ),
)
async def send_broadcast(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """To the bots of a `pool`, to those that do a `type` of task, or to `all`; never to its own sender."""
    asked = await NEW_BROADCAST.read(request)
    asked.check()
    caller = principal_of(request)
    key = idempotency_key(request)
    broadcast_id = new_id() if key is None else derived_id("broadcast", caller.key_id, key)
    command = asked.command(broadcast_id, speaker(caller, asked.sender))
    location = f"/v1/broadcasts/{broadcast_id}"
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(location, broadcast_id)
    version = settled(outcome)
    headers = {"Location": location}
    if isinstance(outcome, AlreadySo):
        headers[REPLAYED] = "true"
    try:
        summary = await doors.ask(GetBroadcast(broadcast_id=broadcast_id, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(location, broadcast_id, version=version, detail=NOT_SHOWN_YET)
    return document(summary, status=201, version=summary.version, headers=headers)


@get(
    "/broadcasts/{broadcast_id:str}",
    says=Operation(
        summary="Show what became of a broadcast",
        scope=READ,
        headers=(AT_LEAST,),
        answers={
            200: Says(meaning="Its messages, by state.", form=DeliverySummary, headers=("Hive-Version",)),
            202: PENDING,
        },
        problems=(409,),
    ),
)
async def show_broadcast(
    request: Request[Any, Any, Any], doors: Seams, broadcast_id: FromPath[str]
) -> Response[bytes]:
    """How many are pending, delivered, read, failed or expired, and which bots could not get it."""
    if not is_name(broadcast_id):
        raise NotFound("broadcast_not_found", "there is no such broadcast")
    query = GetBroadcast(broadcast_id=broadcast_id, at_least=at_least(request))
    summary = await found(doors, query, "broadcast", broadcast_id)
    if isinstance(summary, Response):
        return summary
    check_may_see(principal_of(request), summary.sender)
    return document(summary, version=summary.version)


ROUTES: Final = (send_broadcast, show_broadcast)
