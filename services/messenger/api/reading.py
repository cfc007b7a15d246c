"""What was said, over HTTP: lists, inboxes, a bot's history, conversations, and how messaging is doing."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from services.messenger.api.messages import READ
from services.messenger.api.parties import (
    PARTY_IN_PATH,
    bot_named,
    check_may_see,
    me,
    party_named,
    seen_by,
)
from services.messenger.api.requests import InboxAsked, MessagesAsked, PageAsked
from shared.contracts.messenger.queries import (
    GetConversation,
    GetInbox,
    GetMessagingStatus,
    Inbox,
    ListMessages,
    MessageDoc,
    MessagingStatus,
)
from shared.contracts.orchestrator.queries import GetBot
from shared.contracts.words import BotId, Page, Party
from shared.kernel.errors import Behind, Unavailable
from shared.runtime.answers import document
from shared.runtime.doors import Doors, Principal, Seams, principal_of
from shared.runtime.openapi import AT_LEAST, Operation, Says
from shared.runtime.parameters import Parameters, at_least, given

MESSAGES_ASKED: Final = Parameters(MessagesAsked)
INBOX_ASKED: Final = Parameters(InboxAsked)
PAGE_ASKED: Final = Parameters(PageAsked)

_PAGE: Final = Says(meaning="Messages, newest first.", form=Page[MessageDoc])
_INBOX: Final = Says(meaning="What was sent to it, newest first, and how much is unread.", form=Inbox)


@get(
    "/messages",
    says=Operation(
        summary="List messages",
        scope=READ,
        query=MESSAGES_ASKED,
        headers=(AT_LEAST,),
        answers={200: _PAGE},
        problems=(409,),
    ),
)
async def list_messages(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """Page by page: `next_cursor` asks for what follows. What other persons wrote or got is left out."""
    asked = MESSAGES_ASKED.read(request)
    query = ListMessages(
        party=_party(asked.party),
        sender=_party(asked.sender),
        recipient=_party(asked.recipient),
        state=given(asked.state),
        priority=given(asked.priority),
        broadcast=given(asked.broadcast),
        cursor=given(asked.cursor),
        limit=asked.limit,
        at_least=at_least(request),
    )
    return document(_seen(principal_of(request), await doors.ask(query)))


@get(
    "/bots/{name:str}/inbox",
    says=Operation(
        summary="Show a bot's inbox",
        scope=READ,
        query=INBOX_ASKED,
        headers=(AT_LEAST,),
        answers={200: _INBOX},
        problems=(409,),
    ),
)
async def show_bots_inbox(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """A stopped bot's inbox waits for it. The counts include messages that are left out here."""
    bot = bot_named(name)
    inbox = await _inbox(request, doors, Party(bot))
    if not inbox.items:
        await _check_bot(doors, bot)
    return document(_seen_inbox(request, inbox))


@get(
    "/inbox",
    says=Operation(
        summary="Show your own inbox",
        scope=READ,
        query=INBOX_ASKED,
        headers=(AT_LEAST,),
        answers={200: _INBOX},
        problems=(409,),
    ),
)
async def show_own_inbox(request: Request[Any, Any, Any], doors: Seams) -> Response[bytes]:
    """What was sent to the person whose key this is: `@` and the key's name."""
    inbox = await _inbox(request, doors, me(principal_of(request)))
    return document(_seen_inbox(request, inbox))


@get(
    "/bots/{name:str}/messages",
    says=Operation(
        summary="Show what a bot wrote and got",
        scope=READ,
        query=PAGE_ASKED,
        headers=(AT_LEAST,),
        answers={200: _PAGE},
        problems=(409,),
    ),
)
async def show_bots_messages(
    request: Request[Any, Any, Any], doors: Seams, name: FromPath[str]
) -> Response[bytes]:
    """Both directions; kept when it is stopped, restarted or retired; never another bot's."""
    bot = bot_named(name)
    asked = PAGE_ASKED.read(request)
    query = ListMessages(
        party=Party(bot), cursor=given(asked.cursor), limit=asked.limit, at_least=at_least(request)
    )
    page = await doors.ask(query)
    if not page.items:
        await _check_bot(doors, bot)
    return document(_seen(principal_of(request), page))


@get(
    "/conversations/{one:str}/{other:str}",
    says=Operation(
        summary="Show a conversation",
        scope=READ,
        query=PAGE_ASKED,
        headers=(AT_LEAST,),
        path={"one": PARTY_IN_PATH, "other": PARTY_IN_PATH},
        answers={200: _PAGE},
        problems=(409,),
    ),
)
async def show_conversation(
    request: Request[Any, Any, Any], doors: Seams, one: FromPath[str], other: FromPath[str]
) -> Response[bytes]:
    """What two said to each other: bots by name, persons as `@` and the name of a key, percent-encoded."""
    parties = party_named(one), party_named(other)
    check_may_see(principal_of(request), *parties)
    asked = PAGE_ASKED.read(request)
    page = await doors.ask(
        GetConversation(
            one=parties[0],
            other=parties[1],
            cursor=given(asked.cursor),
            limit=asked.limit,
            at_least=at_least(request),
        )
    )
    return document(page)


@get(
    "/messaging/status",
    says=Operation(
        summary="Show how messaging is doing",
        scope=READ,
        answers={200: Says(meaning="How it is doing.", form=MessagingStatus)},
    ),
)
async def show_messaging_status(doors: Seams) -> Response[bytes]:
    """Messages by state, what waits by priority and for how long, and whose inbox is full."""
    status: MessagingStatus = await doors.ask(GetMessagingStatus())
    return document(status)


async def _inbox(request: Request[Any, Any, Any], doors: Doors, party: Party) -> Inbox:
    asked = INBOX_ASKED.read(request)
    query = GetInbox(
        party=party,
        state=given(asked.state),
        unread=asked.unread,
        priority=given(asked.priority),
        cursor=given(asked.cursor),
        limit=asked.limit,
        at_least=at_least(request),
    )
    return await doors.ask(query)


def _seen_inbox(request: Request[Any, Any, Any], inbox: Inbox) -> Inbox:
    return msgspec.structs.replace(inbox, items=seen_by(principal_of(request), inbox.items))


async def _check_bot(doors: Doors, bot: BotId) -> None:
    """Say that there is no such bot, where nothing was found of it; its owner knows, if it answers."""
    try:
        await doors.ask(GetBot(bot_id=bot))
    except (Behind, Unavailable):
        return


def _seen(caller: Principal, page: Page[MessageDoc]) -> Page[MessageDoc]:
    return msgspec.structs.replace(page, items=seen_by(caller, page.items))


def _party(value: str | msgspec.UnsetType) -> Party | None:
    return None if isinstance(value, msgspec.UnsetType) else Party(value)


ROUTES: Final = (
    list_messages,
    show_bots_inbox,
    show_own_inbox,
    show_bots_messages,
    show_conversation,
    show_messaging_status,
)
