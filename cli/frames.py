"""What is said on the WebSocket of a bot, as the command line reads it: tolerantly."""

from typing import Final

import msgspec

from shared.contracts.messenger.queries import MessageDoc


class Heard(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something the hive says."""


class Hello(Heard, frozen=True, kw_only=True, tag="hello"):
    """Who we are, and to whom we talk."""

    bot: str
    party: str
    after: int


class Text(Heard, frozen=True, kw_only=True, tag="text"):
    """A message of the conversation, of either side."""

    sequence: int
    message: MessageDoc


class Accepted(Heard, frozen=True, kw_only=True, tag="accepted"):
    """What we sent as `ref` is this message; without a `sequence` it is not decided yet."""

    ref: str
    id: str
    sequence: int | None = None


class Live(Heard, frozen=True, kw_only=True, tag="live"):
    """What the bot writes while it answers."""

    message_id: str
    sequence: int
    text: str


class Gap(Heard, frozen=True, kw_only=True, tag="gap"):
    """Some of that is missing."""

    message_id: str


class State(Heard, frozen=True, kw_only=True, tag="state"):
    """A message of ours came to an end without an answer."""

    message_id: str
    state: str
    reason: str | None = None


class Wrong(Heard, frozen=True, kw_only=True, tag="error"):
    """What we said was not obeyed."""

    code: str
    detail: str
    ref: str | None = None
    retry_after_s: int | None = None


Frame = Hello | Text | Accepted | Live | Gap | State | Wrong

_frames: Final[msgspec.json.Decoder[Frame]] = msgspec.json.Decoder(Frame)


def read(data: str | bytes) -> Frame | None:
    """The frame; None for one that this version does not know."""
    try:
        return _frames.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def say(ref: str, content: str) -> str:
    """Send this to the bot; the same `ref` again is the same message."""
    return msgspec.json.encode({"type": "text", "ref": ref, "content": content}).decode()


def ack(sequence: int) -> str:
    """We have read all up to there."""
    return msgspec.json.encode({"type": "ack", "sequence": sequence}).decode()
