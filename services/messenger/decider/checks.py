"""What may be sent at all. Bots speak to us without the gateway, so what it would check is checked here."""

import re
from typing import Final

from shared.contracts.messenger.commands import PostMessage, ReturnMessage, SendBroadcast, SendMessage
from shared.contracts.words import (
    DELIVERIES_MAX,
    MESSAGE_CHARS_MAX,
    MESSAGE_TTL_MAX,
    MESSAGE_TTL_MIN,
    is_name,
)
from shared.kernel.errors import Rejected

PERSON_CHARS_MAX: Final = 101  # `@` and the name of a key
REASON_CHARS_MAX: Final = 2_000
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def check_message(wish: SendMessage | PostMessage) -> None:
    """Rejected, with a code that names the field, if this can be no message."""
    _check(is_name(wish.message_id), "bad_message_id", "`message_id` must be 1 to 50 of A-Z a-z 0-9 _ -")
    _check(is_party(wish.recipient), "bad_recipient", "`recipient` must be a bot's name, or `@` and a key's")
    if isinstance(wish, SendMessage):
        _check(is_party(wish.sender), "bad_sender", "`sender` must be a bot's name, or `@` and a key's")
        _check(
            wish.broadcast is None or is_name(wish.broadcast), "bad_broadcast", "`broadcast` must be an id"
        )
    elif wish.error is not None:
        _check_error(wish.error.code, wish.error.detail)
    _check_content(wish.content)
    _check_ttl(wish.ttl_s)
    _check(
        1 <= wish.deliveries_max <= DELIVERIES_MAX,
        "bad_deliveries_max",
        f"`deliveries_max` must be 1 to {DELIVERIES_MAX}",
    )
    _check(
        wish.in_reply_to is None or is_name(wish.in_reply_to),
        "bad_in_reply_to",
        "`in_reply_to` must be the id of a message",
    )


def check_broadcast(wish: SendBroadcast) -> None:
    """Rejected, with a code that names the field, if this can be no broadcast."""
    _check(
        is_name(wish.broadcast_id), "bad_broadcast_id", "`broadcast_id` must be 1 to 50 of A-Z a-z 0-9 _ -"
    )
    _check(is_party(wish.sender), "bad_sender", "`sender` must be a bot's name, or `@` and a key's")
    _check_content(wish.content)
    _check_ttl(wish.ttl_s)


def check_return(wish: ReturnMessage) -> None:
    """Rejected if what a bot says of its failure is too much to keep."""
    _check_error(wish.code, wish.reason)


def is_party(text: str) -> bool:
    """Whether a text may name a bot or a person."""
    if text.startswith("@"):
        return 1 < len(text) <= PERSON_CHARS_MAX and text.isprintable()
    return is_name(text)


def _check_content(content: str) -> None:
    _check(
        1 <= len(content) <= MESSAGE_CHARS_MAX,
        "bad_content",
        f"`content` must have 1 to {MESSAGE_CHARS_MAX} characters, not {len(content)}",
    )
    _check("\0" not in content, "bad_content", "`content` must not hold the character U+0000")


def _check_ttl(ttl_s: float) -> None:
    shortest, longest = MESSAGE_TTL_MIN.total_seconds(), MESSAGE_TTL_MAX.total_seconds()
    _check(
        shortest <= ttl_s <= longest, "bad_ttl_s", f"`ttl_s` must be {shortest:.0f} to {longest:.0f} seconds"
    )


def _check_error(code: str, detail: str) -> None:
    _check(_CODE.fullmatch(code) is not None, "bad_code", "`code` must be 1 to 100 of A-Z a-z 0-9 _ . : -")
    _check(
        len(detail) <= REASON_CHARS_MAX and "\0" not in detail,
        "bad_reason",
        f"the reason must have at most {REASON_CHARS_MAX} characters, and no U+0000",
    )


def _check(so: bool, code: str, detail: str) -> None:  # noqa: FBT001 - reads as the condition that it is
    if not so:
        raise Rejected(code, detail)
