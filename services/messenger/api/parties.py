"""Who speaks to whom, and who may look at it: persons' letters are their own, and an administrator's."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from shared.contracts.messenger.queries import MessageDoc
from shared.contracts.words import BotId, Party, is_name, is_person, person
from shared.kernel.errors import NotFound
from shared.runtime.doors import ADMIN, Principal
from shared.runtime.problems import Refusal, Wrong

PARTY_PATTERN: Final = r"^(?:@[^\x00-\x1f\x7f]{1,100}|[A-Za-z0-9_-]{1,50})(?!\n)$"
PartyName = Annotated[
    str, msgspec.Meta(pattern=PARTY_PATTERN, description="A bot's name, or `@` and the name of a key.")
]
PARTY_IN_PATH: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": "^(@[A-Za-z0-9_-]{1,100}|[A-Za-z0-9_-]{1,50})$",
}


def party_named(text: str) -> Party:
    """A party from a path; NotFound where it cannot be one."""
    if not is_name(text):
        try:
            msgspec.convert(text, PartyName)
        except msgspec.ValidationError as error:
            raise NotFound("party_not_found", "no bot and no person has such a name") from error
    return Party(text)


def bot_named(text: str) -> BotId:
    """A bot's name from a path; NotFound where it cannot be one."""
    if not is_name(text):
        raise NotFound("bot_not_found", "there is no such bot")
    return BotId(text)


def me(caller: Principal) -> Party:
    """The person who holds the caller's key."""
    return person(caller.name)


def speaker(caller: Principal, wanted: str | None, to: Party | None = None) -> Party:
    """As whom the caller speaks: as itself, or for a bot; never as another person.

    Nor for a bot to another person, who would take it for the bot's own words, unless it is an administrator.
    """
    own = me(caller)
    if wanted is None or wanted == own:
        return own
    if is_person(Party(wanted)):
        wrong = Wrong(detail=f"You are {own}, and can speak for yourself and for bots only.", pointer="/from")
        raise Refusal(403, "sender_refused", wrong.detail, errors=(wrong,))
    if to is not None and not _is_open(caller, (to,)):
        wrong = Wrong(detail="Only an administrator speaks for a bot to another person.", pointer="/from")
        raise Refusal(403, "sender_refused", wrong.detail, errors=(wrong,))
    return Party(wanted)


def check_may_see(caller: Principal, *parties: Party) -> None:
    """Refuse a look at what other persons wrote or got."""
    if not _is_open(caller, parties):
        raise Refusal(403, "party_refused", "Only an administrator sees what other persons wrote or got.")


def seen_by(caller: Principal, messages: Sequence[MessageDoc]) -> list[MessageDoc]:
    """Those of the messages that the caller may see."""
    return [message for message in messages if may_see(caller, message)]


def may_see(caller: Principal, message: MessageDoc) -> bool:
    """Whether the caller may see this message: its own, and what no other person wrote or got."""
    return _is_open(caller, (message.sender, message.recipient))


def _is_open(caller: Principal, parties: Sequence[Party]) -> bool:
    own = me(caller)
    return caller.may(ADMIN) or own in parties or not any(is_person(party) for party in parties)
