"""Commands in: whose they are, what they say, and who decides them. Refuses what may not be asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from shared.contracts.naming import (
    PARCEL_HEADER,
    REPLY_HEADER,
    STRAY,
    CommandAddress,
    inbox_prefix,
    is_token,
    parse_stored_command,
    sender_kind,
    stored_command,
)
from shared.kernel.codec import Codec, members, tag_of
from shared.kernel.errors import Rejected, Undecodable
from shared.kernel.messages import Cause, Command, Envelope, Outcome


class _Loose(msgspec.Struct):
    """As much of an envelope as an unreadable one may still show."""

    command: dict[str, Any]
    id: str = ""


_ENVELOPE = msgspec.json.Decoder(Envelope)
_LOOSE = msgspec.json.Decoder(_Loose)
_UNSAFE = frozenset(" *>\r\n\t")
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decides(Protocol):
    """A handler, as the queue sees it."""

    aggregate: str

    async def handle(
        self, command: Any, cause: Cause, *, command_id: str | None = None, once: bool = False
    ) -> Outcome:
        """Decide one command; with `once`, what came to nothing is left to its next delivery."""
        ...

    def forget(self) -> None:
        """Drop what memory holds."""
        ...


@dataclass(frozen=True)
class Route:
    """Commands of one union go to one handler."""

    requests: object
    handler: Decides
    translate: Callable[[Any], Command] | None = None


@dataclass(frozen=True)
class Request:
    """A command as it came: who sent it, and what it asks."""

    address: CommandAddress
    envelope: Envelope
    command: Command
    handler: Decides

    @property
    def cause(self) -> Cause:
        """The actor of the payload is believed only from the gateway."""
        trusted = self.address.sender == "gateway"
        return Cause(
            message_id=self.envelope.id,
            correlation_id=self.envelope.chain,
            actor=self.envelope.actor if trusted else self.address.sender,
        )


class Intake:
    """Reads stored commands by the routes of one service."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._codecs = [(Codec[Command](route.requests), route) for route in routes]  # type: ignore[arg-type]
        self._by_tag = {tag: (codec, route) for codec, route in self._codecs for tag in codec.tags}
        self._peek = self._codecs[0][0] if routes else None
        self._kinds = {tag_of(kind): kind for route in routes for kind in _commands_of(route.requests)}

    def read(self, subject: str, headers: Mapping[str, str], data: bytes) -> Request:
        """Undecodable: for the dead letters. Rejected: the sender may not ask this."""
        address = parse_stored_command(subject)
        if address.partition == STRAY:
            raise Rejected("sender_refused", f"{address.aggregate_id!r} can be no aggregate")
        try:
            envelope = _ENVELOPE.decode(data)
        except _BROKEN as error:
            raise Undecodable(f"envelope: {error}") from error
        assert self._peek is not None
        tag = self._peek.tag(envelope.command)
        known = self._by_tag.get(tag)
        if known is None:
            raise Undecodable(f"unknown command {tag!r}")
        codec, route = known
        command = codec.decode(envelope.command)
        _authorise(address, command, in_parcel=PARCEL_HEADER in headers)
        return Request(
            address=address,
            envelope=envelope,
            command=command if route.translate is None else route.translate(command),
            handler=route.handler,
        )

    def own_subject(self, subject: str, data: bytes) -> str:
        """Where a command of a parcel would have been stored by itself; as it is, if nobody can tell."""
        address = parse_stored_command(subject)
        try:
            command = _LOOSE.decode(data).command
        except _BROKEN:
            return subject
        known = self._kinds.get(str(command.get("command")))
        key = command.get(known.key_field) if known is not None else None
        if not isinstance(key, str) or not is_token(key):
            return subject
        return stored_command(address.service, address.sender, key)


def _commands_of(union: object) -> list[type[Command]]:
    return [member for member in members(union) if issubclass(member, Command)]


def id_of(data: bytes) -> str:
    """The id of a command, though the rest of it may be unreadable; empty if that is, too."""
    try:
        return _LOOSE.decode(data).id
    except _BROKEN:
        return ""


def reply_to_of(sender: str, headers: Mapping[str, str]) -> str | None:
    """Where a message's sender wants to be answered, if that is below his own inbox."""
    reply_to = headers.get(REPLY_HEADER)
    if reply_to is None or not reply_to.startswith(f"{inbox_prefix(sender)}."):
        return None
    return reply_to if _UNSAFE.isdisjoint(reply_to) else None


def _authorise(address: CommandAddress, command: Command, *, in_parcel: bool) -> None:
    kind = sender_kind(address.sender)
    name = type(command).__name__
    if kind not in command.senders:
        raise Rejected("sender_refused", f"{address.sender} may not send {name}")
    if kind == "bot" and address.sender != f"bot-{getattr(command, 'bot_id', '')}":
        raise Rejected("sender_refused", f"{address.sender} may not speak for another bot")
    if in_parcel and kind == "bot":
        if not is_token(command.key):
            raise Rejected("sender_refused", f"{name} is about what can be no aggregate")
    elif command.key != address.aggregate_id:
        raise Rejected(
            "sender_refused", f"{name} is about {command.key}, but was sent to {address.aggregate_id}"
        )
