"""Messages over HTTP: send one, look at it, mark it read."""

from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath

from services.messenger.api.parties import may_see, me, speaker
from services.messenger.api.requests import HoldAsked, NewMessage
from shared.contracts.messenger.commands import MarkRead
from shared.contracts.messenger.queries import GetMessage, MessageDoc
from shared.contracts.words import MessageId, Party, is_name
from shared.kernel.errors import Behind, NotFound, Unavailable
from shared.kernel.messages import AlreadySo
from shared.runtime.answers import REPLAYED, Pending, document, pending, settled
from shared.runtime.bodies import Body
from shared.runtime.doors import Doors, Principal, Seams, principal_of
from shared.runtime.ids import derived_id, new_id
from shared.runtime.looking import found
from shared.runtime.openapi import AT_LEAST, IDEMPOTENCY_KEY, Operation, Says
from shared.runtime.parameters import Parameters, at_least, idempotency_key

READ: Final = "messages:read"
WRITE: Final = "messages:write"
MESSAGE_BYTES_MAX: Final = 150_000  # the longest content, each character of it escaped as two
NOT_SHOWN_YET: Final = "It is decided, but the views do not show it yet: ask again at Location."

NEW_MESSAGE: Final = Body(NewMessage, bytes_max=MESSAGE_BYTES_MAX)
HOLD: Final = Parameters(HoldAsked)

_MESSAGE: Final = Says(meaning="The message.", form=MessageDoc, headers=("Hive-Version",))
PENDING: Final = Says(
    meaning="It is stored, and not decided yet.", form=Pending, headers=("Location", "Retry-After")
)


def id_for(caller: Principal, *key: str) -> MessageId:
    """The id of a message: always the same for the same caller and key, a new one without a key."""
    return MessageId(derived_id("message", caller.key_id, *key) if key else new_id())


@post(
    "/messages",
    says=Operation(
        summary="Send a message",
        scope=WRITE,
        body=NEW_MESSAGE,
        query=HOLD,
        headers=(IDEMPOTENCY_KEY,),
        answers={
            201: Says(
                meaning="The message is accepted: it will be delivered, or fail, or expire, and says so.",
                form=MessageDoc,
                headers=("Location", "Hive-Version", REPLAYED),
            ),
            202: PENDING,
        },
        problems=(404, 409, 422),
    ),
)
async def send_message(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """To a bot by its name, or to a person (`@` and the name of a key).

    An unknown bot is refused (404 `recipient_unknown`, with the nearest names) unless `hold` is true; so is
    one in `from` (404 `sender_unknown`), and anything but P0 for a bot with too much unread (429
    `inbox_full`). Asked twice with one idempotency key and the same body, it is sent once.
    """
    asked = await NEW_MESSAGE.read(request)
    caller = principal_of(request)
    key = idempotency_key(request)
    message_id = id_for(caller) if key is None else id_for(caller, key)
    sender = speaker(caller, asked.sender, Party(asked.to))
    command = asked.command(message_id, sender, hold=HOLD.read(request).hold)
    location = f"/v1/messages/{message_id}"
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    if outcome is None:
        return pending(location, message_id)
    version = settled(outcome)
    headers = {"Location": location}
    if isinstance(outcome, AlreadySo):
        headers[REPLAYED] = "true"
    try:
        message = await doors.ask(GetMessage(message_id=message_id, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(location, message_id, version=version, detail=NOT_SHOWN_YET)
    return document(message, status=201, version=message.version, headers=headers)


@get(
    "/messages/{message_id:str}",
    says=Operation(
        summary="Show a message",
        scope=READ,
        headers=(AT_LEAST,),
        answers={200: _MESSAGE, 202: PENDING},
        problems=(409,),
    ),
)
async def show_message(
    request: Request[Any, Any, Any], doors: Seams, message_id: FromPath[str]
) -> Response[bytes]:
    """Its state (pending, delivered, read, failed, expired), and since when."""
    wanted = _named(message_id)
    query = GetMessage(message_id=wanted, at_least=at_least(request))
    message = await found(doors, query, "message", wanted)
    if isinstance(message, Response):
        return message
    if not may_see(principal_of(request), message):
        raise _missing()
    return document(message, version=message.version)


@post(
    "/messages/{message_id:str}/read",
    status_code=200,
    says=Operation(
        summary="Mark a message as read",
        scope=WRITE,
        answers={200: _MESSAGE, 202: PENDING},
        problems=(409,),
    ),
)
async def mark_read(
    request: Request[Any, Any, Any], doors: Seams, message_id: FromPath[str]
) -> Response[bytes]:
    """For oneself, or, looking after it, for a bot. What was not delivered yet cannot be read (409)."""
    wanted = _named(message_id)
    caller = principal_of(request)
    message = await _decided(doors, wanted)
    if not may_see(caller, message):
        raise _missing()
    command = MarkRead(message_id=wanted, reader=me(caller))
    outcome = await doors.send(command, actor=caller.actor, wait_s=doors.config().answer_wait_s)
    location = f"/v1/messages/{wanted}"
    if outcome is None:
        return pending(location, wanted)
    version = settled(outcome)
    try:
        message = await doors.ask(GetMessage(message_id=wanted, at_least=version))
    except (Behind, NotFound, Unavailable):
        return pending(location, wanted, version=version, detail=NOT_SHOWN_YET)
    return document(message, version=message.version)


async def _decided(doors: Doors, message_id: MessageId) -> MessageDoc:
    """The message; who may read it is known only when it is decided."""
    message = await found(doors, GetMessage(message_id=message_id), "message", message_id)
    if isinstance(message, Response):
        raise Behind("the message is on its way and not decided yet")
    return message


def _named(text: str) -> MessageId:
    if not is_name(text):
        raise _missing()
    return MessageId(text)


def _missing() -> NotFound:
    return NotFound("message_not_found", "there is no such message")


ROUTES: Final = (send_message, show_message, mark_read)
